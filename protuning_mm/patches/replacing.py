"""How attributes of other libraries are replaced, and how a patch is skipped."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec

_SKIP = 'PROTUNING_MM_SKIP_PATCHES'
_MARK = '_replaced_by_protuning_mm'
_P = ParamSpec('_P')
_patches: set[str] = set()  # the names of all patches


def call_around(method: Callable[..., Any], around: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement of a method that calls ``around(method, …)`` with the method's arguments."""

    @wraps(method)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return around(method, *args, **kwargs)

    return replacement


def skippable(patch: Callable[_P, None]) -> Callable[_P, None]:
    """Make a patch do nothing if ``PROTUNING_MM_SKIP_PATCHES`` names it."""
    _patches.add(patch.__name__)

    @wraps(patch)
    def apply_unless_skipped(*args: _P.args, **kwargs: _P.kwargs) -> None:
        skipped = {name.strip() for name in os.environ.get(_SKIP, '').split(',')} - {''}
        if unknown := skipped - _patches:
            raise ValueError(f'{_SKIP}={os.environ[_SKIP]}: there is no {sorted(unknown)[0]!r} in protuning_mm.patches')
        if patch.__name__ not in skipped:
            patch(*args, **kwargs)

    return apply_unless_skipped


def wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a method by one that calls ``around(method, self, …)``, unless it is replaced already."""
    method = getattr(owner, name)
    if not hasattr(method, _MARK):
        replacement = call_around(method, around)
        setattr(replacement, _MARK, True)
        setattr(owner, name, replacement)


@contextmanager
def replaced(attributes: Sequence[tuple[Any, str, Any]]) -> Iterator[None]:
    """Set attributes, each given by its owner, name and new value, until the block ends."""
    absent = object()
    before = [(owner, name, vars(owner).get(name, absent)) for owner, name, _ in attributes]
    try:
        for owner, name, value in attributes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is absent:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
