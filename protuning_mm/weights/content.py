"""Content that a checkpoint may hold: tensors, numbers, text, and containers of them."""

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
    """Check that a checkpoint holds only data.

    torch's restricted unpickler calls only functions that it allows, but it returns the allowed functions, classes and
    methods as objects, which later code could call. It also sets attributes that can hide those of a tensor or a dict.

    Args:
        content: The loaded content.
        name (str): The file, for the error.

    Raises:
        CheckpointError: names the refused object and its path in the checkpoint.
    """
    pending: list[tuple[str, Any]] = [('', content)]
    seen: set[int] = set()
    while pending:
        path, value = pending.pop()
        kind = type(value)
        if kind in _VALUES or id(value) in seen:
            continue
        seen.add(id(value))
        items = _list_items(value)
        if items is None:
            raise CheckpointError(
                f'{name} is refused: {path.lstrip(".") or "it"} holds {_describe(value)}, which is no tensor, number '
                'or text. To convert a file that you trust, save only its state_dict.'
            )
        pending += [(f'{path}{step}', item) for step, item in items]


def check_parts(checkpoint: Mapping[Any, Any]) -> None:
    """Check that the parts of a checkpoint that mmengine reads are dicts, and that tensors have names.

    Raises:
        CheckpointError: names the part and its type.
    """
    for part in ('state_dict', 'meta', 'message_hub'):
        if not isinstance(checkpoint.get(part, {}), Mapping):
            raise CheckpointError(f'its {part!r} is a {type(checkpoint[part]).__name__}, but must be a dict')
    names = [name for name in checkpoint.get('state_dict', checkpoint) if not isinstance(name, str)]
    if names:
        raise CheckpointError(f'a tensor has the name {names[0]!r}, but names must be text')


def is_plain_dtype(dtype: Any) -> bool:
    """Check whether a dtype is one of numpy's own for numbers, text and times; a pickle can define others."""
    if dtype.kind not in _NUMPY_KINDS or dtype.fields is not None or dtype.subdtype is not None:
        return False
    own = np.dtype(dtype.str)
    return bool(dtype.flags == own.flags and dtype.itemsize == own.itemsize)


def _list_items(value: Any) -> Iterable[tuple[str, Any]] | None:
    """List the items of a value, each with its step in a path; None if a checkpoint must not hold the value."""
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
    if kind is np.ndarray or isinstance(value, np.generic | np.dtype):
        return [] if is_plain_dtype(value if isinstance(value, np.dtype) else value.dtype) else None
    return None


def _with_attributes(value: Any, items: list[tuple[str, Any]]) -> list[tuple[str, Any]] | None:
    """Append the attributes of a value to its items; None if one of them hides an attribute of its class."""
    attributes = getattr(value, '__dict__', {})
    if any(not isinstance(key, str) or hasattr(type(value), key) for key in attributes):
        return None
    return items + [(f'.{key}', item) for key, item in attributes.items()]


def _describe(value: Any) -> str:
    named = getattr(value, '__qualname__', None) or getattr(type(value), '__name__', '?')
    kind = 'an object' if named == type(value).__name__ else f'the {type(value).__name__}'
    return f'{kind} {named}' if isinstance(named, str) else kind
