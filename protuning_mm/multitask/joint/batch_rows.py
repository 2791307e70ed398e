"""Which rows of a batch are whose, while the frozen network runs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Rows:
    """The rows of a pass: one for each image as long as nothing acted on it, then those of each task.

    Tasks that never act (``linear``, ``side``) go on sharing one row for each image.

    Args:
        wanted (Sequence[Sequence[int]]): For each task, the images that it asks about, each once.
        acts (Sequence[bool]): Whether the task acts anywhere in the network.
    """

    def __init__(self, wanted: Sequence[Sequence[int]], acts: Sequence[bool]) -> None:
        self.images = 1 + max(i for images in wanted for i in images)
        self.wanted = wanted
        passive = sorted({i for images, act in zip(wanted, acts) if not act for i in images})
        self.order = list(passive)
        self.apart: list[list[int]] = []  # for each task, its rows after the split
        for images, act in zip(wanted, acts):
            if act:
                self.apart.append(list(range(len(self.order), len(self.order) + len(images))))
                self.order += images
            else:
                self.apart.append([passive.index(i) for i in images])
        self.split = False

    @property
    def number(self) -> int:
        """How many rows there are now."""
        return len(self.order) if self.split else self.images

    def of(self, task: int) -> list[int]:
        """The rows of a task, as they are now."""
        return self.apart[task] if self.split else list(self.wanted[task])

    def spread(self, tensor: Tensor) -> Tensor:
        """From one row an image to each task's own."""
        return take(tensor, self.order, self.images)

    def output(self, task: int, outs: Any) -> Any:
        """A task's part of what the network returned; early outputs may date from before the split."""
        if isinstance(outs, Tensor):
            if len(outs) == len(self.order) and self.split:
                return take(outs, self.apart[task], len(self.order))
            return take(outs, self.wanted[task], self.images)
        return type(outs)(self.output(task, out) for out in outs)


def take(x: Any, rows: Sequence[int], number: int, dim: int = 0) -> Any:
    """The given rows of a tensor, or of every tensor in a tuple or dict, whose ``dim`` holds ``number`` rows.

    A row may be several long: windows of one image lie together. What is no tensor stays as it is.
    """
    if isinstance(x, tuple):
        return tuple(take(item, rows, number, dim) for item in x)
    if isinstance(x, dict):
        return {key: take(item, rows, number, dim) for key, item in x.items()}
    if not isinstance(x, Tensor) or x.dim() <= dim or x.shape[dim] % number or list(rows) == list(range(number)):
        return x
    each = x.shape[dim] // number
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):  # no copy
        return x.narrow(dim, rows[0] * each, len(rows) * each)
    index = torch.tensor([row * each + i for row in rows for i in range(each)], device=x.device)
    return x.index_select(dim, index)
