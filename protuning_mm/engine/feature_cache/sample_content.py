"""Data samples of the host libraries as JSON and bytes, without pickled code."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData
from torch import Tensor

from protuning_mm.data import DataError

_PLAIN = (type(None), bool, int, float, str)
_SEQUENCES: dict[str, type] = {kind.__name__: kind for kind in (list, tuple, torch.Size)}


class SampleWriter:
    """Encodes data samples; tensors and arrays go to one sequence of bytes, to which the text refers by positions.

    Args:
        write (Callable): Appends to the bytes.
    """

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self._at = 0

    def encode(self, sample: Any) -> str:
        """Return a line of JSON.

        Raises:
            DataError: the sample holds something else than numbers, text, tensors, arrays and containers of these.
        """
        return json.dumps(self._encode(sample, type(sample).__name__))

    def _encode(self, value: Any, where: str) -> Any:
        if isinstance(value, _PLAIN) and type(value) in _PLAIN:
            return value
        if isinstance(value, BaseDataElement):
            meta = {key: self._encode(value.get(key), f'{where}.{key}') for key in sorted(value.metainfo_keys())}
            data = {key: self._encode(value.get(key), f'{where}.{key}') for key in sorted(value.keys())}
            return dict(element=type(value).__name__, meta=meta, data=data)
        if type(value) is dict and all(isinstance(key, str) for key in value):
            return dict(dict={key: self._encode(item, f'{where}[{key!r}]') for key, item in value.items()})
        if type(value) in _SEQUENCES.values():
            return {type(value).__name__: [self._encode(item, f'{where}[{i}]') for i, item in enumerate(value)]}
        if type(value) is Tensor and value.layout == torch.strided and value.dtype != torch.bfloat16:
            return self._append('tensor', value.detach().cpu().numpy())
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in 'biufc':
            return self._append('array' if isinstance(value, np.ndarray) else 'number', np.asarray(value))
        raise DataError(
            f'cache_features: the training samples hold {where}, a {type(value).__name__}, which cannot be stored; '
            'numbers, text, tensors and arrays can. Remove it in the pipeline, or train without cache_features'
        )

    def _append(self, kind: str, array: Any) -> Any:
        data = np.ascontiguousarray(array).tobytes()
        at, self._at = self._at, self._at + len(data)
        self._write(data)
        return {kind: [array.dtype.str, list(array.shape), at]}


class SampleReader:
    """Decodes data samples that :class:`SampleWriter` encoded.

    Args:
        data (Any): The bytes, as a buffer.
        classes (dict[str, type]): Classes of the samples and of what is inside them, by name.
    """

    def __init__(self, data: Any, classes: dict[str, type]) -> None:
        self._data = data
        self._classes = classes

    def decode(self, line: str) -> Any:
        """Return a new sample."""
        return self._decode(json.loads(line))

    def _decode(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if 'element' in value:
            element = self._classes[value['element']]()
            element.set_metainfo({key: self._decode(item) for key, item in value['meta'].items()})
            for key, item in value['data'].items():
                setattr(element, key, self._decode(item))
            return element
        ((kind, content),) = value.items()
        if kind == 'dict':
            return {key: self._decode(item) for key, item in content.items()}
        if kind in _SEQUENCES:
            return _SEQUENCES[kind](self._decode(item) for item in content)
        dtype, shape, at = content
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(self._data, dtype, count, at).reshape(shape).copy() if count else np.empty(shape, dtype)
        return torch.from_numpy(array) if kind == 'tensor' else array if kind == 'array' else array[()]


def element_classes(samples: Sequence[Any]) -> dict[str, type]:
    """Return the classes of data samples, and of the elements inside them, by name."""
    found = [InstanceData, LabelData, PixelData, *(type(each) for sample in samples for each in _walk(sample))]
    return {cls.__name__: cls for cls in found}


def _walk(value: Any) -> Iterator[BaseDataElement]:
    if isinstance(value, BaseDataElement):
        yield value
    items = value.values() if isinstance(value, BaseDataElement | dict) else value
    for item in items if isinstance(value, BaseDataElement | dict | list | tuple) else ():
        yield from _walk(item)
