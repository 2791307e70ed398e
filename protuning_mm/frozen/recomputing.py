"""Frozen blocks that save only their inputs: the backward pass runs each block again."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.checkpoint import checkpoint

from protuning_mm.frozen.block_structure import UnsupportedError
from protuning_mm.frozen.conditions import is_ordinary_moment
from protuning_mm.frozen.efficient_forward import EfficientForward


class RecomputedForward(EfficientForward):
    """Forward of a block that saves only the block's inputs.

    The backward pass runs the block again, up to the last tensor that it needs.
    """

    def check(self) -> None:
        norms = (part for part in self.module.modules() if isinstance(part, _BatchNorm | _InstanceNorm))
        if any(norm.training and norm.track_running_stats for norm in norms):
            raise UnsupportedError('a norm is in training mode, and would update its statistics twice')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled() or not is_ordinary_moment() or self.unsupported_reason() is not None:
            return self.plain(*args, **kwargs)
        return checkpoint(self.plain, *args, use_reentrant=False, **kwargs)


def recompute_blocks(stage: nn.Module) -> None:
    """Let the blocks of a stage save only their inputs, except those that already run as one node."""
    for block in find_blocks(stage):
        if 'forward' not in block.__dict__:
            RecomputedForward(block)


def find_blocks(stage: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a stage: the children of its containers, or the stage itself if it has none."""
    if isinstance(stage, nn.Sequential | nn.ModuleList):
        for child in stage:
            yield from find_blocks(child)
        return
    inner = [child for child in stage.children() if isinstance(child, nn.Sequential | nn.ModuleList) and len(child) > 1]
    # a block's own layers, such as those of its MLP, may lie in a container too; a stage's blocks are of one type
    blocks = [child for child in inner if len({type(part) for part in child}) == 1]
    if not blocks:
        yield stage
    for child in blocks:
        yield from child
