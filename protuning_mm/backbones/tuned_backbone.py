"""Any backbone that is read as stages, with any tuning."""

import copy
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from protuning_mm.backbones.filled import FilledBackbone
from protuning_mm.backbones.hosts import build_plain
from protuning_mm.backbones.rehearsal import rehearse
from protuning_mm.frozen import freeze_efficiently, refold, release, verify
from protuning_mm.registry import MODELS
from protuning_mm.stages import Maps, PrefixedTokens, SettingError, read_stages
from protuning_mm.stages.readers import describe
from protuning_mm.tunings import Tuning, TuningError
from protuning_mm.tunings.build import TuningCfg, build_tunings

# What makes a module's tree. Sharing these tables gives every tensor the plain backbone's own name.
_TREE = ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set')
_HOOKS = (
    '_forward_hooks',
    '_forward_pre_hooks',
    '_forward_hooks_with_kwargs',
    '_forward_hooks_always_called',
    '_forward_pre_hooks_with_kwargs',
)
_LOADING = ('_load_state_dict_pre_hooks', '_load_state_dict_post_hooks')


class _StageEnd:
    """A forward hook at the end of a stage: what the tunings make of its feature feeds the next stage."""

    def __init__(self, i: int, layout: Maps, tunings: Sequence[Tuning]) -> None:
        self.i = i
        self.layout = layout
        self.tunings = tunings

    def __call__(self, module: nn.Module, args: tuple[Any, ...], feature: Tensor) -> Tensor:
        x = before = self.layout.to_map(feature, args)  # (N, C_i, H_i, W_i)
        for tuning in self.tunings:
            x = tuning.after_stage(self.i, x)
        return feature if x is before else self.layout.from_map(x, feature)


@MMENGINE_MODELS.register_module()
@MODELS.register_module()
class TunedBackbone(FilledBackbone):
    """A backbone of the hosts or of timm, and what a tuning trains of it and adds to it.

    The plain backbone's tables of children, parameters and buffers become this module's own, and its own forward does
    the work. So a state dict of the tuned network is the plain network's plus what was added: checkpoints of the
    hosts load as they are, and what is saved here loads there.

    Frozen means: no parameter takes a gradient, and the plain backbone stays in eval mode (batch norms use and keep
    their pre-trained statistics), whatever ``train()`` is told. The tuning owns freezing, and nothing else does.

    Args:
        backbone (dict): The backbone's config in its host's words. ``type='timm'`` with ``model_name`` is a model of
            timm; ``out_indices`` makes it a pyramid, without them its output is the pooled feature.
        tuning (str | dict | list): One tuning or several: ``'pro'``, ``dict(type='lora', rank=8)``, … Defaults to
            ``'pro'``.
        num_stages (int): How many stages a plain vision transformer is cut into. Defaults to 4.
        host (str, optional): ``mmdet``, ``mmseg`` or ``mmpretrain``. Defaults to the current default scope.
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint=…)`` names the file of the backbone's weights
            (``torchvision://resnet50``, ``open-mmlab://resnet50_v1c``, a path, a whole detector or segmentor, …). It
            is loaded strictly. Anything else initialises the backbone at random, as the host would. Defaults to the
            backbone config's own.
        pretrained (str, optional): Short for ``init_cfg=dict(type='Pretrained', checkpoint=…)``; mmseg has it.
        allow_random_backbone (bool): Let training start on frozen weights that came from no file. Defaults to False.
        efficient_frozen (bool): Run what is frozen on a graph that keeps almost nothing, with batch norms folded into
            convolutions (:mod:`protuning_mm.frozen`). Results differ by rounding alone. Defaults to True.

    Shape:
        - Input: (N, 3, H, W)
        - Output: what the plain backbone returns

    Warns:
        UserWarning: once, at the first forward of a training, if the frozen tensors came from no file.

    Raises:
        TypeError: the backbone cannot be read as stages.
        ValueError: both ``pretrained`` and ``init_cfg`` are given; a setting of the backbone or tuning is out of range.
        TuningError: a tuning does not fit the backbone, or the others.
        FrozenWeightsError: a checkpoint does not fill the backbone.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        tuning: TuningCfg = 'pro',
        num_stages: int = 4,
        host: str | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        pretrained: str | None = None,
        allow_random_backbone: bool = False,
        efficient_frozen: bool = True,
    ) -> None:
        if not isinstance(backbone, Mapping) or 'type' not in backbone:
            raise SettingError(
                f"backbone={backbone!r}: must be a dict with a type, such as dict(type='ResNet', depth=50)"
            )
        cfg = dict(backbone)
        init_cfg = _one_init_cfg(init_cfg, pretrained, cfg)
        super().__init__(init_cfg)
        tunings = build_tunings(tuning)
        # the tuning owns freezing: inherited host configs bring these, and they are accepted
        owned = ('frozen_stages',) if any(t.trains_mode for t in tunings) else ('frozen_stages', 'norm_eval')
        self.ignored_args = {key: cfg.pop(key) for key in owned if key in cfg}
        plain = build_plain(cfg, host)
        # Neither is a child: `plain` is this module's tree under its host's class.
        object.__setattr__(self, 'plain', plain)
        for table in (*_TREE, *_LOADING):
            object.__setattr__(self, table, getattr(plain, table))
        self.reading = read_stages(plain, num_stages)
        self.allow_random_backbone = allow_random_backbone
        # timm loads its own weights while it builds
        self.frozen_source = getattr(plain, 'pretrained_source', None)
        self.frozen_prefix = None
        self.plain_children = frozenset(plain._modules)
        self.plain_keys = frozenset(plain.state_dict())
        # such as weights of a classifier that is not there, or fixed positions: no tuning trains them either
        self.never_trained = frozenset(key for key, param in plain.named_parameters() if not param.requires_grad)
        for param in plain.parameters():
            param.requires_grad_(False)
        self.efficient_frozen = efficient_frozen
        if efficient_frozen:  # before anything is added
            freeze_efficiently(plain)
        self.tunings = tunings
        for each in tunings:
            each.efficient = efficient_frozen
        before = _hooks(plain)
        self._set_up_tunings()
        self.hooked = _hooks(plain) - before
        rehearse(self, cfg)
        self.hooked = _hooks(plain) - before
        self.train(self.training)

    def _set_up_tunings(self) -> None:
        params = dict(self.plain.named_parameters())
        reading = self.reading.up_to_last_out()
        for tuning in self.tunings:
            try:
                tuning.setup(self.plain, reading)
            except TuningError as error:
                raise TuningError(f'{error} (the backbone is {describe(self.plain)})') from None
            kept = (key for key in tuning.trained - self.never_trained if not key.startswith(reading.unused))
            tuning.trained = frozenset(kept)
            for key in tuning.trained:
                params[key].requires_grad_(True)
        for tuning in self.tunings:  # after all of them have looked at the plain backbone
            if tuning.added is not None:
                self.add_module(tuning.child, tuning.added)
        layout = reading.layout
        if isinstance(layout, PrefixedTokens):
            self.plain.get_submodule(layout.embedding).register_forward_hook(layout.watch)
        at_stages = [t for t in self.tunings if type(t).after_stage is not Tuning.after_stage]
        stages = reading.stages if at_stages else ()
        for i, stage in enumerate(stages):
            here = layout.last if i == len(stages) - 1 else layout
            self.plain.get_submodule(stage.end).register_forward_hook(_StageEnd(i, here, at_stages))

    def forward(self, x: Tensor) -> Any:
        self.tell_if_random()
        run = self.reading.run
        outs = self.plain(x) if run is None else run(self.plain, x)
        for tuning in self.tunings:
            outs = tuning.after_forward(x, outs)
        return outs

    @property
    def stages(self) -> nn.ModuleList:
        """The pre-trained stages, in order; the stem stands before the first."""
        if 'stages' in self._modules:  # a Swin or ConvNeXt has them under this name itself
            return self._modules['stages']
        stages = []
        for stage in self.reading.stages:
            modules = [self.plain.get_submodule(path) for path in stage.modules]
            stages.append(modules[0] if len(modules) == 1 else nn.Sequential(*modules))
        return nn.ModuleList(stages)

    @property
    def trained_keys(self) -> frozenset[str]:
        """The plain backbone's own parameters that the tunings train."""
        return frozenset(chain.from_iterable(tuning.trained for tuning in self.tunings))

    @property
    def frozen_keys(self) -> frozenset[str]:
        """The plain backbone's tensors that stay bit for bit what they were."""
        if any(tuning.trains_mode for tuning in self.tunings):  # batch norms may gather statistics
            return frozenset()
        return self.plain_keys - self.trained_keys

    def untuned(self) -> nn.Module:
        """Hand back a copy of the plain backbone, bit for bit what was loaded, and free to be trained.

        Parameters of its own that the tuning trained are read again from the file that they came from.

        Raises:
            TuningError: the tuning trains the backbone's own parameters, and no file of theirs is known.
        """
        plain = self._without_added()
        trained = self.plain_keys - self.frozen_keys
        if trained:
            cfg = self.init_cfg
            if not (isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained'):
                raise TuningError(
                    f'{self.tunings[0].name} trains parameters of the backbone itself, and no file is known to read '
                    "them from again: set init_cfg=dict(type='Pretrained', checkpoint=…)"
                )
            state = self._read(cfg['checkpoint'], cfg.get('prefix'))
            target = plain.state_dict()
            for key in trained & set(state):
                target[key].copy_(state[key])
        return plain

    def merge(self) -> nn.Module:
        """Hand back a plain backbone that computes what this one does, with the tuning folded into its weights.

        Raises:
            TuningError: a tuning cannot be folded.
        """
        tuned = copy.deepcopy(self)
        for tuning in tuned.tunings:
            tuning.merge(tuned.plain)
        return tuned._without_added(copied=True)

    def _without_added(self, copied: bool = False) -> nn.Module:
        tuned = self if copied else copy.deepcopy(self)
        plain: nn.Module = tuned.plain
        release(plain)
        for name in set(plain._modules) - self.plain_children:
            del plain._modules[name]
        for path, table, key in tuned.hooked:
            del getattr(plain.get_submodule(path), table)[key]
        plain.requires_grad_(True)
        plain.train()
        return plain

    def train(self, mode: bool = True) -> 'TunedBackbone':
        verify(self.plain)
        if mode != self.training:  # where EMA swaps weights behind torch's back
            refold(self.plain)
        super().train(mode)
        follows = mode and any(tuning.trains_mode for tuning in self.tunings)
        self.plain.training = follows  # the host's own forward looks at it: dropout before the classifier
        if follows:
            self.plain.train(mode)
        else:
            for name in self.plain_children:
                self._modules[name].eval()
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        verify(self.plain)
        return super().state_dict(*args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> 'TunedBackbone':
        refold(self.plain)
        super()._apply(fn, recurse)
        return self


def _hooks(module: nn.Module) -> set[tuple[str, str, int]]:
    """Every forward hook in a module's tree, as (module path, table of hooks, key)."""
    return {
        (path, table, key) for path, part in module.named_modules() for table in _HOOKS for key in getattr(part, table)
    }


def _one_init_cfg(init_cfg: Any, pretrained: str | None, backbone: dict[str, Any]) -> Any:
    """The one setting of the initial weights, taken out of the backbone's config where it stands there."""
    written = {
        'pretrained': pretrained,
        'init_cfg': init_cfg,
        'backbone.init_cfg': backbone.pop('init_cfg', None),
        'backbone.pretrained': None if backbone.get('type') == 'timm' else backbone.pop('pretrained', None),
    }
    given = {key: value for key, value in written.items() if value is not None}
    if len(given) > 1:
        listed = ' and '.join(f'{key}={value!r}' for key, value in given.items())
        raise SettingError(f'{listed} both name initial weights: keep one of them (set the other to None)')
    for key, value in given.items():
        return dict(type='Pretrained', checkpoint=value) if key.endswith('pretrained') else value
    return None
