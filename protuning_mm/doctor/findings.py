"""A finding of the doctor and its level, and helpers that format its text."""

import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal['error', 'warning', 'info']
LEVELS: tuple[Level, ...] = ('error', 'warning', 'info')


@dataclass(frozen=True)
class Finding:
    """A fault or a fact that was found in a config, its model or its data.

    Args:
        level (str): ``'error'``: training would stop, or its result would be wrong. ``'warning'``: probably not
            intended. ``'info'``: good to know.
        where (str): The config key, file or package.
        found (str): What was found there.
        advice (str): What to change. Defaults to an empty string: nothing has to be changed.
    """

    level: Level
    where: str
    found: str
    advice: str = ''


Findings = Iterator[Finding]


def join_first(names: list[str], limit: int = 3) -> str:
    """Join the first ``limit`` names and the number of the others: ``'a, b, c and 4 more'``."""
    more = len(names) - limit
    return ', '.join(names[:limit]) + (f' and {more} more' if more > 0 else '')


def describe_error(error: BaseException) -> str:
    """Return the class of an error and the first line of its message; for errors of this package only the message.

    Paths of installed libraries are removed from the message.
    """
    lines = [_remove_paths(line) for line in str(error).splitlines() if line.strip()]
    if lines and ('Traceback' in lines[0] or lines[0].startswith('Caught ')):  # from a worker of a data loader
        lines = lines[-1:]
    if lines and type(error).__module__.partition('.')[0] == 'protuning_mm':
        return lines[0]
    return f'{type(error).__name__}: {lines[0][:300]}' if lines else type(error).__name__


def _remove_paths(text: str) -> str:
    """Remove paths of installed libraries, and of their sources on the machine that compiled them."""
    return _BUG.sub('', _FILE.sub('', text)).strip()


_FOLDERS = {sysconfig.get_paths()[name] for name in ('purelib', 'platlib', 'stdlib', 'platstdlib')}
_INSTALLED = '|'.join(re.escape(path) for path in sorted(_FOLDERS, key=len, reverse=True))
_FILE = re.compile(
    r'(?:,? (?:in|at|from|File))? ?\(?["\'`]?'
    rf'(?:(?:{_INSTALLED})/[^\s"\'`:,()]+'  # installed here
    r'|/[^\s"\'`:,()]+\.(?:cpp|cc|cu|cuh|h|hpp)\b'  # on the machine that compiled it
    r'|\b(?:mm\w+|timm|torch|protuning_mm)/[\w/]+\.py)'
    r'["\'`]?(?::\d+|, line \d+)?\)?'
)
_BUG = re.compile(r', please report a bug to PyTorch')
