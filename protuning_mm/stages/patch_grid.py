"""The grid of patches of a vision transformer, recorded in each forward pass."""

from collections.abc import Callable
from threading import get_ident
from typing import Any

import torch
from torch import nn

from protuning_mm.stages.layouts import Grid


class PatchGrid:
    """A forward hook of the patch embedding that records (H, W) of the patch grid in the current forward pass.

    The grid is stored per thread. Gradient checkpointing recomputes a block in the thread of the backward pass, which
    then gets the grid of the last forward pass.

    Args:
        size (Callable, optional): Returns (H, W), given the embedding module, its arguments and its output.
    """

    only_watches = True

    def __init__(self, size: Callable[[nn.Module, Any, Any], Grid] | None = None) -> None:
        self.size = size
        self._of_threads: dict[int, Grid] = {}
        self._last: Grid | None = None

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        assert self.size is not None
        height, width = self.size(module, args, output)
        self._last = (height, width)
        if not torch.compiler.is_compiling():  # a compiler cannot trace the identity of a thread
            self._of_threads[get_ident()] = self._last

    @property
    def now(self) -> Grid | None:
        """(H, W) of the current grid; None if the features are not patch tokens."""
        if torch.compiler.is_compiling():
            return self._last
        return self._of_threads.get(get_ident(), self._last)
