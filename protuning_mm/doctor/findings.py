"""What the doctor says: one finding, and how grave it is."""

import re
import sysconfig
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
    """The error's kind and the first line of its message; of this package's own errors the message alone.

    What only tells where libraries are installed is left out.
    """
    lines = [_outside(line) for line in str(error).splitlines() if line.strip()]
    if lines and ('Traceback' in lines[0] or lines[0].startswith('Caught ')):  # a loader's worker's, handed on
        lines = lines[-1:]
    if lines and type(error).__module__.partition('.')[0] == 'protuning_mm':
        return lines[0]
    return f'{type(error).__name__}: {lines[0][:300]}' if lines else type(error).__name__


def _outside(text: str) -> str:
    """Take away files of installed libraries, and of the machine that compiled them."""
    return _BUG.sub('', _FILE.sub('', text)).strip()


_PLACES = {sysconfig.get_paths()[name] for name in ('purelib', 'platlib', 'stdlib', 'platstdlib')}
_INSTALLED = '|'.join(re.escape(path) for path in sorted(_PLACES, key=len, reverse=True))
_FILE = re.compile(
    r'(?:,? (?:in|at|from|File))? ?\(?["\'`]?'
    rf'(?:(?:{_INSTALLED})/[^\s"\'`:,()]+'  # of this machine
    r'|/[^\s"\'`:,()]+\.(?:cpp|cc|cu|cuh|h|hpp)\b'  # of the one that compiled
    r'|\b(?:mm\w+|timm|torch|protuning_mm)/[\w/]+\.py)'
    r'["\'`]?(?::\d+|, line \d+)?\)?'
)
_BUG = re.compile(r', please report a bug to PyTorch')
