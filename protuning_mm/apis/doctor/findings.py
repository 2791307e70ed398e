"""What the doctor says: one finding, and how grave it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal['error', 'warning', 'info']
LEVELS: tuple[Level, ...] = ('error', 'warning', 'info')


@dataclass(frozen=True)
class Finding:
    """Something that was seen in a config, its model or its data.

    Args:
        level (str): ``'error'``: the training would stop, or its result be wrong. ``'warning'``: probably not what is
            meant. ``'info'``: good to know.
        where (str): The config's key as it is written there, or the file, or the package.
        found (str): What is so.
        advice (str): What to change; empty where nothing has to be.
    """

    level: Level
    where: str
    found: str
    advice: str = ''


Findings = Iterator[Finding]


def first_few(names: list[str], limit: int = 3) -> str:
    """Join the first few names, and say how many more there are."""
    more = len(names) - limit
    return ', '.join(names[:limit]) + (f' and {more} more' if more > 0 else '')


def first_line(error: BaseException) -> str:
    """The error's kind and the first line of its message; of this package's own errors the message alone."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if lines and type(error).__module__.partition('.')[0] == 'protuning_mm':
        return lines[0]
    return f'{type(error).__name__}: {lines[0][:300]}' if lines else type(error).__name__
