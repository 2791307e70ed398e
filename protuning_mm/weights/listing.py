"""Lists of tensors for error messages."""

from collections.abc import Iterable

_LISTED = 12


def listed(what: str, keys: Iterable[str]) -> str:
    """Format a list of keys for an error message.

    Args:
        what (str): What the keys have in common, such as ``'missing'``.
        keys (Iterable[str]): The keys.

    Returns:
        str: The number of keys, and one line for each of the first twelve; empty if there are no keys.
    """
    keys = list(keys)
    if not keys:
        return ''
    more = f'\n    … and {len(keys) - _LISTED} more' if len(keys) > _LISTED else ''
    return f'\n  {len(keys)} {what}:' + ''.join(f'\n    {key}' for key in keys[:_LISTED]) + more
