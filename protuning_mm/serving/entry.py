"""A task as the store names it."""

import re
from dataclasses import dataclass
from pathlib import Path

from protuning_mm.serving.errors import RequestError
from protuning_mm.weights.hub import SCHEME

NAME = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}', re.ASCII)


@dataclass(frozen=True)
class Entry:
    """A task as the store names it. Two entries are equal if they are the same version of a task.

    Args:
        name (str): The task's name.
        config (str): Path of its config, or a config in a package, such as ``mmdet::…``.
        delta (str): Path of its delta, or an address that begins with ``hf://``.
        stamp (tuple): Time, size and inode of the delta's file; empty for an address.
        fixed (bool): Whether the command line names the task. Defaults to False.
    """

    name: str
    config: str
    delta: str
    stamp: tuple[int, ...]
    fixed: bool = False


def make_entry(name: str, config: str, delta: str, fixed: bool = False) -> Entry:
    """Make an entry with the stamp that the delta's file has now.

    Raises:
        RequestError: the delta is missing (500).
    """
    if delta.startswith(SCHEME):
        return Entry(name, config, delta, (), fixed)
    try:
        found = Path(delta).stat()
    except OSError:
        raise RequestError(500, f'task {name!r}: its delta is missing on the server') from None
    return Entry(name, config, delta, (found.st_mtime_ns, found.st_size, found.st_ino), fixed)
