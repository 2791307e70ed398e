"""What a checkpoint may hold: tensors, numbers, text, and containers of them."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging.history_buffer import HistoryBuffer
from torch import Tensor, nn

from protuning_mm.weights.errors import CheckpointError

_VALUES = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.dtype, torch.device, torch.Size)
_LISTS = (list, tuple, set)
_DICTS = (dict, OrderedDict, Counter)
_TENSORS = (Tensor, nn.Parameter)
_NUMPY_KINDS = 'biufcSUmM'  # bool, integers, floats, complex, text, time


def check_content(content: Any, name: str) -> None:
    """Check that everything in a checkpoint is data.

    torch's restricted unpickler calls nothing that it does not know, but it hands out what it knows: functions, classes
    and methods, which a reader may then take for something else, and attributes that hide a tensor's or a dict's own.

    Args:
        content: What was read.
        name (str): The file, for the error.

    Raises:
        CheckpointError: names the place and what is there.
    """
    waiting: list[tuple[str, Any]] = [('', content)]
    seen: set[int] = set()
    while waiting:
        place, value = waiting.pop()
        kind = type(value)
        if kind in _VALUES or id(value) in seen:
            continue
        seen.add(id(value))
        inside = _inside(value)
        if inside is None:
            raise CheckpointError(
                f'{name} is refused: {place.lstrip(".") or "it"} holds {_called(value)}, which is no tensor, number or '
                'text. Convert it where you trust it: save its state_dict alone.'
            )
        waiting += [(f'{place}{step}', item) for step, item in inside]


def check_parts(checkpoint: Mapping[Any, Any]) -> None:
    """Check that what mmengine reads of a checkpoint are dicts, and that tensors have names.

    Raises:
        CheckpointError: names the part and what is there.
    """
    for part in ('state_dict', 'meta', 'message_hub'):
        if not isinstance(checkpoint.get(part, {}), Mapping):
            raise CheckpointError(f'its {part!r} is a {type(checkpoint[part]).__name__}, and a dict is expected')
    names = [name for name in checkpoint.get('state_dict', checkpoint) if not isinstance(name, str)]
    if names:
        raise CheckpointError(f'a tensor stands under {names[0]!r}, and a name of text is expected')


def plain_dtype(dtype: Any) -> bool:
    """Whether a dtype is one of numpy's own for numbers, text and times; a file can bring one with other fields."""
    if dtype.kind not in _NUMPY_KINDS or dtype.fields is not None or dtype.subdtype is not None:
        return False
    own = np.dtype(dtype.str)
    return bool(dtype.flags == own.flags and dtype.itemsize == own.itemsize)


def _inside(value: Any) -> Iterable[tuple[str, Any]] | None:
    """What a value is made of, each with its step in a path; None where it is nothing that a checkpoint may hold."""
    kind = type(value)
    if kind in _DICTS:
        items = [(f'.{key}' if isinstance(key, str) else '[…]', item) for key, item in kind.items(value)]
        return _with_attributes(value, [*((' (a key)', key) for key in value), *items])
    if kind in _LISTS:
        return [(f'[{i}]', item) for i, item in enumerate(value)]
    if kind in _TENSORS:
        return None if value._backward_hooks else _with_attributes(value, [])
    if kind is slice:
        return [('', part) for part in (value.start, value.stop, value.step)]
    if kind is HistoryBuffer:
        return list(vars(value).items())
    if kind is np.ndarray and value.dtype == object:
        return [('[…]', item) for item in value.ravel().tolist()]
    if kind is np.ndarray or isinstance(value, np.generic):
        return [] if plain_dtype(value.dtype) else None
    if isinstance(value, np.dtype):
        return [] if plain_dtype(value) else None
    return None


def _with_attributes(value: Any, inside: list[tuple[str, Any]]) -> list[tuple[str, Any]] | None:
    """Add a value's own attributes; None where one of them hides one of its class."""
    attributes = getattr(value, '__dict__', {})
    if any(not isinstance(key, str) or hasattr(type(value), key) for key in attributes):
        return None
    return inside + [(f'.{key}', item) for key, item in attributes.items()]


def _called(value: Any) -> str:
    named = getattr(value, '__qualname__', None) or getattr(type(value), '__name__', '?')
    kind = 'an object' if named == type(value).__name__ else f'the {type(value).__name__}'
    return f'{kind} {named}' if isinstance(named, str) else kind
