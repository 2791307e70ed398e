"""Lists of tensors in errors: the first few, and how many there are."""

from collections.abc import Iterable

_LISTED = 12


def listed(what: str, keys: Iterable[str]) -> str:
    """How many there are and what of, and a line for each of the first; nothing where there are none."""
    keys = list(keys)
    if not keys:
        return ''
    more = f'\n    … and {len(keys) - _LISTED} more' if len(keys) > _LISTED else ''
    return f'\n  {len(keys)} {what}:' + ''.join(f'\n    {key}' for key in keys[:_LISTED]) + more
