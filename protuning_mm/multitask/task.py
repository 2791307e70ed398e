"""One task: its model, how its images are read, and how its head runs."""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protuning_mm.backbones import TunedBackbone
from protuning_mm.data import DataError
from protuning_mm.multitask.errors import MultiTaskError
from protuning_mm.multitask.hooked import runs_jointly
from protuning_mm.multitask.hosts import TestPipeline
from protuning_mm.multitask.served import ready_made
from protuning_mm.multitask.trunk import signature

Image = str | np.ndarray[Any, Any]


@dataclass(frozen=True)
class Prepared:
    """An image as a model takes it.

    Args:
        inputs (Tensor): (1, 3, H, W), normalised and padded.
        sample (DataSample): Its host's own, with the meta of the image.
    """

    inputs: Tensor
    sample: Any


@dataclass(frozen=True, eq=False)
class Task:
    """A task that is served. It never changes: a swap makes another.

    Args:
        name (str): Its name.
        model (nn.Module): Its host's model.
        meta (dict): The data set's meta: ``classes``, ``palette``.
        pipeline (TestPipeline): Reads and transforms an image.
        source (str): The checkpoint that it came from.
    """

    name: str
    model: Any
    meta: dict[str, Any]
    pipeline: TestPipeline
    source: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def backbone(self) -> TunedBackbone:
        """Its tuned backbone."""
        backbone: TunedBackbone = self.model.backbone
        return backbone

    @property
    def kind(self) -> str:
        """The host: mmdet, mmseg or mmpretrain."""
        return self.pipeline.host

    @property
    def family(self) -> tuple[Any, ...] | None:
        """What it runs jointly with: tasks of the same; None where it runs by itself."""
        return signature(self.backbone) if runs_jointly(self.backbone) else None

    def prepare(self, image: Image) -> Prepared:
        """Read an image and pre-process it, as the model alone would with this image alone.

        Raises:
            DataError: it cannot be read.
        """
        try:
            if isinstance(image, np.ndarray) and (image.ndim != 3 or not image.size):
                raise DataError('it must be (H, W, 3)')
            data = self.pipeline(image)
        except MultiTaskError:
            raise
        except Exception as error:  # OpenCV's, the hosts', the file system's
            shown = f'an array of shape {image.shape}' if isinstance(image, np.ndarray) else repr(image)
            first = (str(error).splitlines() or [''])[0]
            raise DataError(f'task {self.name!r} cannot read {shown} as an image: {first}') from error
        data = self.model.data_preprocessor(data, False)
        return Prepared(data['inputs'], data['data_samples'][0])

    def run_head(self, x: Tensor, samples: list[Any], mode: str, features: Any = None) -> Any:
        """Run the model on a batch, with its backbone's outputs where they are there already.

        Args:
            x (Tensor): (N, 3, H, W).
            samples (list): Their data samples.
            mode (str): mmengine's: ``predict`` or ``tensor``.
            features (Any, optional): The backbone's outputs for ``x``. Defaults to running it.
        """
        with self.lock, torch.no_grad():
            if features is None:
                return self.model(x, samples, mode=mode)
            with ready_made(self.backbone, x, features):
                return self.model(x, samples, mode=mode)
