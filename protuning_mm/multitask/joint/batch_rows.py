"""Which rows of a joint batch belong to which task, while the frozen network runs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class BatchRows:
    """The rows of a joint batch: one row for each image before the split, each task's own rows after it.

    The batch is split where a task first changes a feature map. Tasks that change none (``linear``, ``side``) share one
    row for each image to the end.

    Args:
        images (Sequence[Sequence[int]]): For each task, the distinct indices of its images.
        acts (Sequence[bool]): For each task, whether it changes feature maps.
    """

    def __init__(self, images: Sequence[Sequence[int]], acts: Sequence[bool]) -> None:
        self.images = images
        self.num_images = 1 + max(i for own in images for i in own)
        unchanged = sorted({i for own, act in zip(images, acts) if not act for i in own})
        self.split_images = list(unchanged)  # the image of each row after the split
        self.split_rows: list[list[int]] = []  # for each task, its rows after the split
        for own, act in zip(images, acts):
            if act:
                start = len(self.split_images)
                self.split_rows.append(list(range(start, start + len(own))))
                self.split_images += own
            else:
                self.split_rows.append([unchanged.index(i) for i in own])
        self.is_split = False

    @property
    def number(self) -> int:
        """The current number of rows."""
        return len(self.split_images) if self.is_split else self.num_images

    def of_task(self, task: int) -> Sequence[int]:
        """Return the current rows of a task, given by its position."""
        return self.split_rows[task] if self.is_split else self.images[task]

    def split(self, x: Any) -> Any:
        """Split the batch: return a tensor, or each tensor of a tuple, with each task's own rows."""
        x = select_rows(x, self.split_images, self.num_images)
        self.is_split = True
        return x

    def select_outputs(self, task: int, outs: Any) -> Any:
        """Return a task's rows of the network's outputs, some of which may come from before the split."""
        if not isinstance(outs, Tensor):
            return type(outs)(self.select_outputs(task, out) for out in outs)
        if self.is_split and len(outs) == len(self.split_images):
            return select_rows(outs, self.split_rows[task], len(self.split_images))
        return select_rows(outs, self.images[task], self.num_images)


def select_rows(x: Any, rows: Sequence[int], number: int, dim: int = 0) -> Any:
    """Return some rows of a tensor, or of every tensor in a tuple or dict.

    Args:
        x (Any): Tensors and other values; other values are returned unchanged.
        rows (Sequence[int]): The rows.
        number (int): Number of rows of the tensors. A row may have several entries in ``dim``, such as the windows of
            one image.
        dim (int): The batch dimension. Defaults to 0.
    """
    if isinstance(x, tuple):
        return tuple(select_rows(item, rows, number, dim) for item in x)
    if isinstance(x, dict):
        return {key: select_rows(item, rows, number, dim) for key, item in x.items()}
    if not isinstance(x, Tensor) or x.dim() <= dim or x.shape[dim] % number or list(rows) == list(range(number)):
        return x
    each = x.shape[dim] // number
    if list(rows) == list(range(rows[0], rows[0] + len(rows))):  # no copy
        return x.narrow(dim, rows[0] * each, len(rows) * each)
    index = torch.tensor([row * each + i for row in rows for i in range(each)], device=x.device)
    return x.index_select(dim, index)
