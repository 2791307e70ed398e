"""Entry points to run the frozen parts of a network efficiently, and a report of which modules run efficiently.

A module that runs efficiently keeps its class, its tensors and its place in the network. Only the instance gets another
``forward``, which reads the module's current state at every call.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from protuning_mm.frozen.attention import WINDOW_ATTENTIONS, EfficientWindowAttention
from protuning_mm.frozen.block_structure import BLOCKS, BlockLayers, UnsupportedError, read_block, type_name
from protuning_mm.frozen.conditions import compute_dtype, is_ordinary_call
from protuning_mm.frozen.conv import unfolded
from protuning_mm.frozen.efficient_forward import EfficientForward
from protuning_mm.frozen.efficient_layers import LAYERS, EfficientConv, EfficientNorm, EfficientReLU
from protuning_mm.frozen.efficient_stem import EfficientStem, wrap_stem
from protuning_mm.frozen.folding import fold
from protuning_mm.frozen.higher_order import anchor
from protuning_mm.frozen.memory_efficient_block import BlockOp, ResidualBlock, pool_args
from protuning_mm.frozen.recomputing import recompute_blocks
from protuning_mm.frozen.saved_int8 import save_in_int8


@dataclass
class FrozenReport:
    """Which modules run efficiently and which do not.

    Args:
        efficient (dict): Module path -> type of each module that runs efficiently.
        fallback (dict): Module path -> reason why the module does not run efficiently, although its type is supported.
            Such a module runs the forward of its class. Layers inside it may still run efficiently.
        other (dict): Type -> number of other layers that have frozen parameters.
    """

    efficient: dict[str, str] = field(default_factory=dict)
    fallback: dict[str, str] = field(default_factory=dict)
    other: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f'run efficiently: {_listed(Counter(self.efficient.values()))}']
        why = Counter(self.fallback.values())
        lines += [f'own forward: {number} × {reason}' for reason, number in why.items()]
        if self.other:
            lines.append(f'unchanged: {_listed(self.other)}')
        return '\n'.join(lines)


# what is saved for the backward pass: what the gradients need; the same in 8 bits; the inputs of blocks
FROZEN_MODES = ('exact', 'int8', 'recompute')


def read_mode(value: bool | str) -> str | Literal[False]:
    """Return the mode that a setting names: ``'exact'`` for True; False stands for the host's own execution.

    Raises:
        ValueError: there is no such mode.
    """
    mode = 'exact' if value is True else value
    if mode is not False and mode not in FROZEN_MODES:
        raise ValueError(f'efficient_frozen={value!r} must be True, False, {", ".join(map(repr, FROZEN_MODES))}')
    return mode


def freeze_efficiently(module: nn.Module, mode: str = 'exact', stages: Iterable[nn.Module] = ()) -> FrozenReport:
    """Run the frozen parts of a network efficiently.

    Classes, names and tensors stay the same, and so do results up to rounding. The function does not freeze anything:
    batch norms in training mode and parameters that require a gradient work as before. :func:`release` undoes it.

    It supports the blocks ``BasicBlock`` and ``Bottleneck`` of the ResNets in mmdet, mmseg and mmpretrain (ResNet, V1c,
    V1d, ResNeXt, RegNet), timm and torchvision. It also supports the stems of these networks, except timm's deep stems.
    Subclasses of these blocks are not supported. Other frozen Conv2d and batch norm layers, also those inside
    unsupported blocks, are changed so that they save no activations for the backward pass, and ReLU and ReLU6 so that
    they save one bit per element. Swin's window attention (of mmdet, mmseg and mmpretrain) saves only queries, keys,
    values, position bias and mask.

    Args:
        module (nn.Module): The network, or a part of it.
        mode (str): ``'exact'``; ``'int8'`` to save in 8 bits what a stage saves in 16 or 32
            (:mod:`protuning_mm.frozen.saved_int8`); ``'recompute'`` to save the inputs of a stage's blocks and run the
            blocks again in the backward pass (:mod:`protuning_mm.frozen.recomputing`). Defaults to ``'exact'``.
        stages (Iterable[nn.Module]): The stages, or parts of stages, for the last two modes; each part without trained
            matrices or kernels.

    Returns:
        FrozenReport: Which modules run efficiently in the network's current state; see :func:`report`.
    """
    for part in module.modules():
        forward = _FORWARDS.get(type_name(part))
        if forward is not None and 'forward' not in part.__dict__:
            forward(part)
        wrap_stem(part)
    if mode != 'exact':
        for stage in stages:
            (save_in_int8 if mode == 'int8' else recompute_blocks)(stage)
    return report(module)


def release(module: nn.Module) -> None:
    """Undo :func:`freeze_efficiently`."""
    for forward in _forwards(module).values():
        forward.restore()


def report(module: nn.Module) -> FrozenReport:
    """List which modules of a network run efficiently in its current state, which do not, and why.

    Args:
        module (nn.Module): The module that was passed to :func:`freeze_efficiently`.
    """
    found, inside = FrozenReport(), set[int]()
    for path, part in module.named_modules():
        forward = part.__dict__.get('forward')
        if isinstance(forward, EfficientStem):
            inside.update(id(norm) for norm in forward.norms())  # folded into their convolutions, so not listed
        elif id(part) in inside:
            continue
        elif isinstance(forward, EfficientForward):
            why = forward.unsupported_reason()
            if why is None:
                found.efficient[path] = type(part).__name__
                inside.update(id(child) for child in forward.covers())
            else:
                found.fallback[path] = f'{type(part).__name__}: {why}'
        elif any(p is not None and not p.requires_grad for p in part._parameters.values()):
            found.other[type(part).__name__] = found.other.get(type(part).__name__, 0) + 1
    return found


def _forwards(module: nn.Module) -> dict[str, EfficientForward]:
    found = {path: part.__dict__.get('forward') for path, part in module.named_modules()}
    return {path: forward for path, forward in found.items() if isinstance(forward, EfficientForward)}


def _listed(counts: dict[str, int]) -> str:
    return ', '.join(f'{number} {name}' for name, number in sorted(counts.items())) or 'nothing'


class EfficientBlock(EfficientForward):
    """Forward of a frozen residual block as one autograd node (:mod:`protuning_mm.frozen.memory_efficient_block`)."""

    def covers(self) -> Iterable[nn.Module]:
        return self.module.modules()

    def check(self) -> BlockLayers:
        return read_block(self.module, own=(EfficientBlock, EfficientConv, EfficientNorm, EfficientReLU))

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        graph = _needs_graph(x)
        eligible = not args and not kwargs and is_ordinary_call(x)
        folds = eligible and self._pays_to_fold(x)
        block = self._build_op(x, folds) if eligible and (graph or folds) else None
        if block is None:
            return self.plain(x, *args, **kwargs)
        with torch.autocast(x.device.type, enabled=False):
            if graph:
                return ResidualBlock.apply(x, block, anchor(x))  # anchor: see higher_order.py
            with torch.no_grad():
                return block(x)

    @cached_property
    def _size(self) -> int:
        """The number of the block's parameters."""
        return sum(p.numel() for p in self.module.parameters())

    def _pays_to_fold(self, x: Tensor) -> bool:
        """Return whether folding saves time.

        Each use multiplies the weights, which takes the longer the more weights there are. In return, the norms do not
        have to read and write the block's feature maps, which together are about twice as large as the block's input.
        """
        return 2 * x.numel() > self._size

    def _build_op(self, x: Tensor, folds: bool) -> BlockOp | None:
        try:
            parts = self.check()
        except UnsupportedError:
            return None
        pairs = [*parts.branch, parts.shortcut] if parts.shortcut else parts.branch
        dtypes = {compute_dtype(x, conv, norm) for conv, norm in pairs}
        dtype = dtypes.pop()
        if dtypes or dtype is None:
            return None
        convs = [
            fold(conv, norm, dtype) if folds or conv.weight.dtype != dtype else unfolded(conv, norm)
            for conv, norm in pairs
        ]
        block = BlockOp(
            convs[: len(parts.branch)],
            pool=None if parts.pool is None else pool_args(parts.pool),
            shortcut=convs[-1] if parts.shortcut else None,
        )
        return block if block.fits(x.shape) else None


def _needs_graph(x: Tensor) -> bool:
    return torch.is_grad_enabled() and x.requires_grad


_FORWARDS: dict[str, type[EfficientForward]] = {
    **dict.fromkeys(BLOCKS, EfficientBlock),
    **dict.fromkeys(WINDOW_ATTENTIONS, EfficientWindowAttention),
    **LAYERS,
}
