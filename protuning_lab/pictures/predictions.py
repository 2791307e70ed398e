"""The predictions that ``tools/test.py --out`` writes, read without running what is in the file."""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from protuning_lab.pictures.canvas import PictureError
from protuning_mm.weights import CheckpointError
from protuning_mm.weights.content import check_content

Labels = np.ndarray[Any, Any]


def read_labels(path: str | Path) -> tuple[Labels, Labels]:
    """Read a classifier's predictions.

    Args:
        path (str | Path): A ``.pkl`` file of ``tools/test.py --out``.

    Returns:
        tuple[ndarray, ndarray]: The true class of each test image, and the predicted one.

    Raises:
        PictureError: it is missing, no such file, holds more than tensors and plain values, or is no classifier's with
            one class an image.
    """
    if not Path(path).is_file():
        raise PictureError(f'there are no predictions {str(path)!r}: tools/test.py CONFIG CHECKPOINT --out {path}')
    with Path(path).open('rb') as file:
        try:
            samples = _TensorsAlone(file).load()
            check_content(samples, str(path))
        except CheckpointError as error:
            raise PictureError(str(error)) from None
        except Exception as error:  # a damaged pickle raises whatever its bytes lead to
            raise PictureError(
                f'{path} cannot be read as predictions of tools/test.py: {type(error).__name__}: {error}'
            ) from None
    if not isinstance(samples, list) or not samples or not all(isinstance(sample, dict) for sample in samples):
        raise PictureError(f'{path} holds no list of predictions, as tools/test.py --out writes it')
    keys = 'gt_label', 'pred_label'
    for i, sample in enumerate(samples):
        if not all(isinstance(sample.get(key), torch.Tensor) and sample[key].numel() == 1 for key in keys):
            raise PictureError(
                f'{path}, prediction {i} holds {", ".join(map(str, sample)) or "nothing"}: it must have one gt_label '
                'and one pred_label, as those of mmpretrain classifiers have'
            )
    true, predicted = (np.array([int(sample[key]) for sample in samples]) for key in keys)
    return true, predicted


class _TensorsAlone(pickle.Unpickler):
    """Builds tensors and plain values; a pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(f'it would run {module}.{name}') from None


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=True)


def _latin1(text: str, encoding: str) -> bytes:
    """What older pickle protocols write bytes as."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it would decode {encoding}')
    return text.encode('latin1')


_ALLOWED: dict[str, Callable[..., Any]] = {
    'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
    'torch.storage._load_from_bytes': _storage,
    'collections.OrderedDict': OrderedDict,
    '_codecs.encode': _latin1,
}
