"""A batch of one task's images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from protuning_mm.multitask.task import PreparedImage, Task


class Batch:
    """A task's images of one shape in a request.

    Args:
        task (Task): The task.
        positions (list[int]): Positions of the batch's images among the task's images in the request.
        prepared (Sequence[PreparedImage]): All the task's images in the request.

    Attributes:
        x (Tensor): (N, 3, H, W).
        samples (list): The host's data samples of the images.
        features (Any): What the task's backbone returns for ``x``; None until it is computed.
    """

    def __init__(self, task: Task, positions: list[int], prepared: Sequence[PreparedImage]) -> None:
        self.task = task
        self.positions = positions
        self.samples = [prepared[i].sample for i in positions]
        self.x = torch.cat([prepared[i].inputs for i in positions])
        self.features: Any = None

    def run_head(self, mode: str) -> Any:
        """Return the model's outputs in one of mmengine's modes, ``predict`` or ``tensor``."""
        return self.task.run(self.x, self.samples, mode, self.features)

    def split_features(self) -> list[Any]:
        """Return the backbone's outputs for each image, in a batch of one."""
        if self.features is None:
            with torch.no_grad():
                self.features = self.task.backbone(self.x)
        return [select_images(self.features, slice(k, k + 1)) for k in range(len(self.positions))]


def select_images(outs: Any, images: slice | list[int]) -> Any:
    """Return some images of a backbone's outputs: tensors (N, …), or nested tuples or lists of them."""
    if isinstance(outs, Tensor):
        return outs[images]
    return type(outs)(select_images(out, images) for out in outs)
