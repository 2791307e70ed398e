"""Reads the predictions that ``tools/test.py --out`` writes, without running code in the file."""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protuning_lab.pictures.figures import PictureError
from protuning_mm.weights import CheckpointError
from protuning_mm.weights.content import check_content

Labels = np.ndarray[Any, Any]


def read_labels(path: str | Path) -> tuple[Labels, Labels]:
    """Read a classifier's predictions.

    Args:
        path (str | Path): A ``.pkl`` file of ``tools/test.py --out``.

    Returns:
        tuple[ndarray, ndarray]: The true and the predicted class of each test image, both (N,).

    Raises:
        PictureError: the file does not exist, is damaged, contains more than tensors and plain values, or is not from a
            classifier with one class per image.
    """
    if not Path(path).is_file():
        raise PictureError(
            f'predictions file {str(path)!r} does not exist; write it with tools/test.py CONFIG CHECKPOINT --out {path}'
        )
    with Path(path).open('rb') as file:
        try:
            samples = _TensorUnpickler(file).load()
            check_content(samples, str(path))
        except CheckpointError as error:
            raise PictureError(str(error)) from None
        except Exception as error:  # a damaged pickle can raise any error
            raise PictureError(
                f'{path} cannot be read as predictions of tools/test.py: {type(error).__name__}: {error}'
            ) from None
    if not isinstance(samples, list) or not samples or not all(isinstance(sample, dict) for sample in samples):
        raise PictureError(f'{path} does not contain a list of predictions, as tools/test.py --out writes it')
    keys = 'gt_label', 'pred_label'
    for i, sample in enumerate(samples):
        if not all(isinstance(sample.get(key), torch.Tensor) and sample[key].numel() == 1 for key in keys):
            raise PictureError(
                f'{path}: prediction {i} has {", ".join(map(str, sample)) or "no keys"}; it must have one gt_label and '
                'one pred_label, as predictions of mmpretrain classifiers do'
            )
    true, predicted = (np.array([int(sample[key]) for sample in samples]) for key in keys)
    return true, predicted


class _TensorUnpickler(pickle.Unpickler):
    """Unpickles only tensors and plain values, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(f'it would run {module}.{name}') from None


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def _latin1(text: str, encoding: str) -> bytes:
    """Decode bytes as older pickle protocols write them."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it would decode {encoding}')
    return text.encode('latin1')


_ALLOWED: dict[str, Callable[..., Any]] = {
    'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
    'torch.storage._load_from_bytes': _storage,
    'collections.OrderedDict': OrderedDict,
    '_codecs.encode': _latin1,
}
