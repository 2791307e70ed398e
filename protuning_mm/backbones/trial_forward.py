"""A trial forward pass after building, which checks the stages' features and that all added modules can learn.

It runs on a copy of the network on torch's meta device, whose tensors have shapes but no values. That takes
milliseconds and leaves no traces in the network, such as the state that some networks store in a forward pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from protuning_mm.backbones.plain_copies import remove_additions
from protuning_mm.stages import Maps, ReadingError, Stage
from protuning_mm.stages.readers import describe, reading_error
from protuning_mm.stages.trial import copy_for_trial, sizes_to_try
from protuning_mm.tunings import Tuning, TuningError


class _Idle(NamedTuple):
    """An added module on which no output depends.

    ``user`` is the path of the module that uses the layer's weight directly instead of calling the layer, if any.
    """

    tuning: Tuning
    path: str
    user: str | None


def check_by_trial_forward(backbone: Any, cfg: Mapping[str, Any]) -> None:
    """Check a newly built backbone.

    If a module uses the weight of a linear layer directly instead of calling that layer, the module that a tuning added
    to the layer is run there (:meth:`~protuning_mm.tunings.Tuning.tap_weight_use`).

    Args:
        backbone (TunedBackbone): The backbone.
        cfg (dict): The plain backbone's config, which gives the size and the channels of its images.

    Raises:
        ReadingError: a stage does not run in order or does not return a feature of the stated layout and channels.
        TuningError: an added module does not fit, or can never learn because no output depends on it.
    """
    if all(tuning.added is None for tuning in backbone.tunings) or next(backbone.parameters()).is_meta:
        return  # a backbone built on the meta device is only used to count parameters and never runs
    idle = _run(backbone, cfg)
    past = [part for part in idle if part.user is not None]
    for tuning, path, user in past:
        tuning.tap_weight_use(backbone.plain, path, user)  # type: ignore[arg-type]
    if past:
        idle = _run(backbone, cfg)
    if idle:
        tuning, path, _ = idle[0]
        more = f' and at {len(idle) - 1} other places' if len(idle) > 1 else ''
        raise TuningError(
            f'{tuning.name} does not fit {describe(backbone.plain)}: no output depends on the module it adds at '
            f'{path!r}{more}, which would never learn: the network does not call the module at that path, or drops '
            'its result'
        )


@torch.inference_mode(False)
def _run(backbone: Any, cfg: Mapping[str, Any]) -> list[_Idle]:
    """Return the added modules on which no output depends.

    Devices and image sizes are tried until the plain network accepts one; if it accepts none, nothing is checked.
    """
    failed: Exception | None = None
    channels = int(cfg.get('in_chans') or cfg.get('in_channels') or 3)
    some = next(backbone.parameters())
    for device in ('meta', None):  # some operators of the hosts do not support the meta device
        for size in sizes_to_try(backbone.plain, cfg.get('img_size'), (224, 64)):
            image = torch.zeros(2, channels, *size, device=device or some.device, dtype=some.dtype)
            try:
                return _observe(copy_for_trial(backbone, device), backbone.tunings, image)
            except ReadingError:
                raise
            except Exception as error:  # a host's code may raise anything for an unsupported image size
                if _plain_runs(backbone, device, image):
                    failed = error
                    break
    if failed is not None:
        names = ' and '.join(tuning.name for tuning in backbone.tunings)
        lines = str(failed).splitlines() or ['']
        raise TuningError(
            f'{names} does not fit {describe(backbone.plain)}, whose forward fails with it: '
            f'{type(failed).__name__}: {lines[0]}. Tunings that fit most networks: pro, lora, bias, partial'
        ) from None
    return []


def _observe(trial: Any, tunings: Sequence[Tuning], image: Tensor) -> list[_Idle]:
    acting = any(type(tuning).after_stage is not Tuning.after_stage for tuning in tunings)
    stages = trial.structure.up_to_last_out().stages if acting else ()
    ends = _watch_stages(trial, stages)
    uses = _WeightUses(trial)
    with torch.enable_grad(), uses:
        outs = trial(image)
    if ends != list(range(len(stages))):
        paths = [stage.end for stage in stages]
        raise reading_error(
            trial.plain,
            f'its stages end in {paths}, each of which must run once and in order, but {[paths[i] for i in ends]} ran',
        )
    reached = _leaves(outs)
    idle = []
    for own, tuning in zip(tunings, trial.tunings):
        for key, part in (tuning.added or nn.ModuleDict()).named_children():
            if any(p.requires_grad and id(p) not in reached for p in part.parameters()):
                path = tuning.tapped_paths.get(key, f'{tuning.child}.{key}')
                user = None if path in own.weight_users else uses.found.get(path)
                idle.append(_Idle(own, path, user))
    return idle


def _watch_stages(trial: Any, stages: Sequence[Stage]) -> list[int]:
    """Register hooks that check each stage's feature before the tunings change it.

    Returns:
        list[int]: Filled with stage indices in the order in which the stages run.
    """
    calls: list[int] = []

    def watch(i: int, layout: Maps, module: nn.Module, args: Any, feature: Any) -> None:
        calls.append(i)
        stage = stages[i]
        shape = tuple(feature.shape) if isinstance(feature, Tensor) else type(feature).__name__
        try:
            x = layout.to_map(feature, layout.grid(args, trial._token_grid.now))
            right = x.dim() == 4 and x.shape[1] == stage.channels
        except Exception:  # a layout may raise anything for a feature that does not fit it
            right = False
        if not right:
            raise reading_error(
                trial.plain,
                f'{stage.end!r}, read as the end of stage {i + 1} of {len(stages)}, gives {shape}, not a '
                f'feature of {stage.channels} channels in the layout {type(layout).__name__}',
            )

    for i, stage in enumerate(stages):
        end = trial.plain.get_submodule(stage.end)
        end.register_forward_hook(partial(watch, i, trial.structure.layout), prepend=True)
    return calls


class _WeightUses(TorchFunctionMode):
    """Records which modules multiply by the weight of a linear layer that a tuning added a module to.

    Attributes:
        found (dict): Path of the linear layer -> path of the module that uses its weight.
    """

    def __init__(self, trial: Any) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.running: list[str] = []
        paths = {path for tuning in trial.tunings for path in tuning.tapped_paths.values()}
        layers = ((path, trial.plain.get_submodule(path)) for path in paths)
        self.weights = {id(layer.weight): path for path, layer in layers if isinstance(layer, nn.Linear)}
        for path, module in trial.plain.named_modules():
            module.register_forward_pre_hook(partial(self._enter, path))
            module.register_forward_hook(self._leave, always_call=True)

    def _enter(self, path: str, module: nn.Module, args: Any) -> None:
        self.running.append(path)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.running.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.linear:
            path = self.weights.get(id(args[1] if len(args) > 1 else kwargs['weight']))
            if path is not None and self.running[-1] != path:
                self.found[path] = self.running[-1]
        return func(*args, **kwargs)


def _leaves(outs: Any) -> set[int]:
    """Return the ids of all leaf tensors that the outputs depend on."""
    todo = [out.grad_fn for out in _tensors(outs)]
    seen, found = set[Any](), set[int]()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, 'variable'):
            found.add(id(node.variable))
        todo += [before for before, _ in node.next_functions]
    return found


def _tensors(outs: Any) -> Iterator[Tensor]:
    if isinstance(outs, Tensor):
        yield outs
    elif isinstance(outs, Mapping):
        yield from chain.from_iterable(map(_tensors, outs.values()))
    elif isinstance(outs, Sequence) and not isinstance(outs, str):
        yield from chain.from_iterable(map(_tensors, outs))


def _plain_runs(backbone: Any, device: str | None, image: Tensor) -> bool:
    """Return whether the plain network can be copied and accepts this image."""
    try:
        trial = copy_for_trial(backbone, device)
        run, plain = trial.structure.run, remove_additions(trial)
        plain.eval()  # not chained, because eval() of some hosts returns None
        plain(image) if run is None else run(plain, image)
    except Exception:
        return False
    return True
