"""One pass of the frozen network for several tasks."""

import copy
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone
from protuning_mm.frozen import refold
from protuning_mm.multitask.hooked import Hook, hooks_of, inside_blocks
from protuning_mm.multitask.rows import Rows, take


class Trunk:
    """The frozen network without a tuning; at each place where one of the tasks has a hook, it meets its own rows.

    It is a copy of the module tree alone: every tensor is the resident one. Not to be run by two threads at once.

    Args:
        backbones (Mapping): Task -> its backbone. They run jointly, and their signatures are the same.
    """

    def __init__(self, backbones: Mapping[str, TunedBackbone]) -> None:
        self.backbones = dict(backbones)
        first = next(iter(backbones.values()))
        self.network = plain_copy(first)
        self.outs = first.structure.outs
        if _outs_are_free(first):
            self.outs = tuple(sorted(set(chain.from_iterable(b.structure.outs for b in backbones.values()))))
            self.network.out_indices = self.outs
        self.hooks = {name: hooks_of(backbone) for name, backbone in backbones.items()}
        self.in_blocks = {name: inside_blocks(b, self.hooks[name]) for name, b in backbones.items()}
        self.now: tuple[list[str], Rows] | None = None  # the pass that runs
        for path in sorted(set(chain.from_iterable(self.in_blocks.values()))):
            block = self.network.get_submodule(path)
            block.register_forward_pre_hook(_BeforeBlock(self, path), with_kwargs=True)
        for path in sorted(set(chain.from_iterable(self.hooks.values()))):
            self.network.get_submodule(path).register_forward_hook(_Place(self, path), with_kwargs=True)

    def __call__(self, images: Tensor, wanted: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """Run the network once.

        Args:
            images (Tensor): Distinct images (N, 3, H, W).
            wanted (Mapping): Task -> which of them it asks about, each once.

        Returns:
            dict: Task -> what its backbone returns for its images.
        """
        names = list(wanted)
        rows = Rows(list(wanted.values()), [self.acts(name) for name in names])
        run = self.backbones[names[0]].structure.run
        batch = images
        if run is not None:  # timm's shape their outputs by the number of images that they began with
            batch = rows.spread(images)
            rows.split = True
        self.now = names, rows
        try:
            found = self.network(batch) if run is None else run(self.network, batch)
        finally:
            self.now = None
        return {name: self._output(name, images, rows, i, found) for i, name in enumerate(names)}

    @property
    def members(self) -> frozenset[tuple[str, TunedBackbone]]:
        """The tasks and their backbones."""
        return frozenset(self.backbones.items())

    def acts(self, name: str) -> bool:
        """Whether a task changes anything before the network's end."""
        return any(not hook.only_watches for here in self.hooks[name].values() for hook in here)

    def forget_folded(self) -> None:
        """Drop folded weights, which are another copy of the frozen ones."""
        refold(self.network)

    def _output(self, name: str, images: Tensor, rows: Rows, i: int, found: Any) -> Any:
        backbone = self.backbones[name]
        if not isinstance(found, Tensor) and self.outs != backbone.structure.outs:
            found = type(found)(found[self.outs.index(stage)] for stage in backbone.structure.outs)
        outs = rows.output(i, found)
        own = take(images, rows.wanted[i], rows.images)
        for tuning in backbone.tunings:
            outs = tuning.after_forward(own, outs)
        return outs


class _BeforeBlock:
    """Before the first block in which a task acts, its rows are made: a block's shortcut must have them too."""

    def __init__(self, trunk: Trunk, path: str) -> None:
        self.trunk = trunk
        self.path = path

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert self.trunk.now is not None
        names, rows = self.trunk.now
        if rows.split or not any(self.path in self.trunk.in_blocks[name] for name in names):
            return None
        spread = rows.spread(args[0])
        rows.split = True
        return (spread, *args[1:]), kwargs


class _Place:
    """A place where tunings act: each task's hooks see its own rows of the module's input and output."""

    def __init__(self, trunk: Trunk, path: str) -> None:
        self.trunk = trunk
        self.path = path

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        assert self.trunk.now is not None
        names, rows = self.trunk.now
        dim = 1 if isinstance(module, nn.MultiheadAttention) and not module.batch_first else 0
        changed: dict[int, Any] = {}
        for i, name in enumerate(names):
            hooks: list[Hook] = self.trunk.hooks[name].get(self.path, [])
            own = result = take(output, rows.of(i), rows.number, dim) if hooks else output
            for hook in hooks:
                part = (take(x, rows.of(i), rows.number, dim) for x in (args, kwargs))
                result = hook(module, *part, result)  # type: ignore[call-arg]
            if result is not own:
                changed[i] = result
        if not changed:
            return None
        if not rows.split:
            output = _each(lambda x: rows.spread(x), output)
            rows.split = True
        return _put(output, {rows.apart[i][0]: result for i, result in changed.items()}, len(rows.order), dim)


def _each(function: Any, x: Any) -> Any:
    if isinstance(x, tuple):
        return tuple(_each(function, item) for item in x)
    return function(x) if isinstance(x, Tensor) else x


def _put(output: Any, parts: Mapping[int, Any], number: int, dim: int) -> Any:
    """Replace runs of rows, each given with the row that it begins with."""
    if isinstance(output, tuple):
        items = range(len(output))
        return tuple(_put(output[k], {row: part[k] for row, part in parts.items()}, number, dim) for k in items)
    if not isinstance(output, Tensor):
        return output
    each = output.shape[dim] // number
    pieces, at = [], 0
    for row in sorted(parts):
        pieces += [output.narrow(dim, at, row * each - at), parts[row]]
        at = row * each + parts[row].shape[dim]
    pieces.append(output.narrow(dim, at, output.shape[dim] - at))
    return torch.cat([piece for piece in pieces if piece.shape[dim]], dim)


def plain_copy(backbone: TunedBackbone) -> Any:
    """A copy of the plain network's modules with the same tensors: without hooks of tunings, and what they added."""
    shared = {id(t): t for t in chain(backbone.parameters(), backbone.buffers())}
    plain: Any = copy.deepcopy(backbone.plain, shared)
    for name in set(plain._modules) - backbone.plain_children:
        del plain._modules[name]
    for path, table, key in backbone.hooked:
        del getattr(plain.get_submodule(path), table)[key]
    plain.eval()  # some hosts return None
    return plain


# settings of vision transformers and ConvNeXts that no module of theirs shows
_SETTINGS = frozenset({
    'cls_token', 'final_norm', 'gap_before_final_norm', 'global_pool', 'interpolate_mode', 'interpolate_pos_encoding',
    'num_extra_tokens', 'out_type', 'output_cls_token', 'with_cls_token',
})  # fmt: skip


def signature(backbone: TunedBackbone) -> tuple[Any, ...]:
    """What two backbones must have in common for one to stand for the other, beside their tensors."""
    plain: Any = backbone.plain
    parts = []
    added = set(backbone._modules) - backbone.plain_children
    for path, module in plain.named_modules():
        if path.split('.')[0] in added or isinstance(module, nn.Identity):
            continue
        own = (type(module).__name__.replace('SyncBatchNorm', 'BatchNorm2d'), module.extra_repr())
        parts.append((path, *own))
    free = _outs_are_free(backbone)
    settings = tuple(
        sorted((k, v) for k, v in vars(plain).items() if k in _SETTINGS and isinstance(v, str | int | bool))
    )
    return (
        backbone.efficient_frozen,
        type(backbone.structure.layout).__name__,
        None if free else backbone.structure.outs,
        None if free else tuple(getattr(plain, 'out_indices', None) or ()),
        settings,
        tuple(sorted(backbone.plain_keys)),
        tuple(parts),
    )


def _outs_are_free(backbone: TunedBackbone) -> bool:
    """Whether each output is a stage's feature itself, as a ResNet's: which are returned changes nothing else."""
    plain: Any = backbone.plain
    return hasattr(plain, 'res_layers') and tuple(plain.out_indices) == backbone.structure.outs
