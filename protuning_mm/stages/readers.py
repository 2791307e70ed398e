"""The registry of readers: functions that read a class of backbones as stages."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from protuning_mm.stages.structure import ReadingError, Stages

Reader = Callable[[Any, int], Stages]

_READERS: dict[str, Reader] = {}
_WHERE = 'docs/backbones.md lists the supported networks and shows how to add another'


def register_reader(*names: str) -> Callable[[Reader], Reader]:
    """Register a reader: a function that describes the stages of one or several classes of backbones.

    The function takes the backbone and the number of stages into which to divide a plain transformer. It returns a
    :class:`~protuning_mm.stages.Stages`.

    Args:
        *names (str): ``'<top package>.<class>'``, such as ``'mmdet.ResNet'``. Classes are given by name, so that no
            library has to be imported to register a reader.
    """

    def register(reader: Reader) -> Reader:
        for name in names:
            _READERS[name] = reader
        return reader

    return register


def find_reader(backbone: nn.Module) -> Reader | None:
    """Return the reader registered for a backbone's class or one that it inherits from, if there is one."""
    for cls in type(backbone).__mro__:
        package = cls.__module__.split('.')[0]
        reader = _READERS.get(f'{package}.{cls.__name__}') or _READERS.get(f'{package}.*')
        if reader is not None:
            return reader
    return None


def describe(plain: nn.Module) -> str:
    """Return a network's name for messages: model name and class for timm, else its host's class."""
    cls, fetch = type(plain), getattr(plain, 'fetch_pretrained', None)
    if fetch is not None:
        return f'timm model {fetch.args[0]} ({cls.__name__})'
    return f'{cls.__module__.split(".")[0]}.{cls.__name__}'


def reading_error(plain: nn.Module, why: str) -> ReadingError:
    """Return the error of a backbone that its reader cannot read."""
    return ReadingError(f'{describe(plain)} cannot be read as stages: {why}. {_WHERE}')


def rename_key(key: str, names: Mapping[str, str]) -> str:
    """Replace each regular expression of ``names`` in a key, in order."""
    for pattern, name in names.items():
        key = re.sub(pattern, name, key)
    return key
