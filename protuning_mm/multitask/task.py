"""One task: its model, how it prepares images, and how it runs."""

import threading
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protuning_mm.backbones import TunedBackbone
from protuning_mm.data import DataError
from protuning_mm.multitask.backbone_forward import use_features
from protuning_mm.multitask.errors import MultiTaskError
from protuning_mm.multitask.hosts import TestPipeline

Image = str | np.ndarray[Any, Any]


@dataclass(frozen=True)
class PreparedImage:
    """An image as the model's input.

    Args:
        inputs (Tensor): (1, 3, H, W), normalized and padded.
        sample (DataSample): The host's data sample with the image's meta information.
    """

    inputs: Tensor
    sample: Any


@dataclass(frozen=True, eq=False)
class Task:
    """A task. It never changes: a swap replaces it by another.

    Args:
        name (str): Its name.
        model (nn.Module): The host's model.
        meta (dict): The data set's meta information: ``classes``, ``palette``.
        pipeline (TestPipeline): Reads and transforms an image.
        source (str): The checkpoint from which it was loaded.
    """

    name: str
    model: Any
    meta: dict[str, Any]
    pipeline: TestPipeline
    source: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def backbone(self) -> TunedBackbone:
        """The model's tuned backbone."""
        backbone: TunedBackbone = self.model.backbone
        return backbone

    @property
    def kind(self) -> str:
        """The host library: mmdet, mmseg or mmpretrain."""
        return self.pipeline.host

    @property
    def own_bytes(self) -> int:
        """Bytes of the tensors that no other task shares: prompts, neck and heads."""
        shared = {tensor.untyped_storage().data_ptr() for tensor in self.backbone.frozen_tensors().values()}
        storages = (tensor.untyped_storage() for tensor in chain(self.model.parameters(), self.model.buffers()))
        sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
        return sum(size for address, size in sizes.items() if address not in shared)

    def class_name(self, label: int) -> str:
        """Return the name of a class, or ``class N`` if the task does not name its classes."""
        classes = self.meta.get('classes') or ()
        return str(classes[label]) if label < len(classes) else f'class {label}'

    def prepare(self, image: Image) -> PreparedImage:
        """Read and preprocess one image, as the host's own inference function does.

        Raises:
            DataError: the image cannot be read.
        """
        try:
            if isinstance(image, np.ndarray) and (image.ndim != 3 or not image.size):
                raise DataError('it must be (H, W, 3)')
            data = self.pipeline(image)
        except MultiTaskError:
            raise
        except Exception as error:  # raised by OpenCV, the host or the file system
            shown = f'an array of shape {image.shape}' if isinstance(image, np.ndarray) else repr(image)
            first = (str(error).splitlines() or [''])[0]
            raise DataError(f'task {self.name!r} cannot read {shown} as an image: {first}') from error
        data = self.model.data_preprocessor(data, False)
        return PreparedImage(data['inputs'], data['data_samples'][0])

    def run(self, x: Tensor, samples: list[Any], mode: str, features: Any = None) -> Any:
        """Run the model on a batch.

        Args:
            x (Tensor): (N, 3, H, W).
            samples (list): The data samples of the images.
            mode (str): One of mmengine's modes, ``predict`` or ``tensor``.
            features (Any, optional): The backbone's outputs for ``x``. Defaults to running the backbone.
        """
        with self.lock, torch.no_grad():
            if features is None:
                return self.model(x, samples, mode=mode)
            with use_features(self.backbone, x, features):
                return self.model(x, samples, mode=mode)
