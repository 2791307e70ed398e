"""The paper's order, claim by claim, against what was measured."""

import math
import statistics
from collections.abc import Iterator

from scipy import stats

from studies.results import Measured, paired, spread

# What the paper says of Pro-Tuning against each: at least as good as full fine-tuning, better than the others. Norm
# tuning, Conv-Adapter, VPT, LoRA and SSF are not in its comparison: for them the difference alone is told.
PAPER = ('full', 'linear', 'partial', 'bias', 'side', 'adapter', 'adaptformer')
OURS = ('norm', 'conv_adapter', 'vpt', 'lora', 'ssf')
AGAINST = {'all': PAPER, 'full': ('full',), 'others': tuple(name for name in PAPER if name != 'full')}
# An even difference from full fine-tuning is not yet "at least as good": it is left open as well.
MEANINGS = {'above': 'agrees', 'even': 'open', 'below': 'contradicts'}


def verdict(differences: list[float]) -> str:
    """``above`` or ``below`` zero where Student's t-test at 5 % can tell the mean from zero, else ``even``."""
    if len(differences) < 2:
        return 'even'
    mean, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    if abs(mean) <= stats.t.ppf(0.975, len(differences) - 1) * error:
        return 'even'
    return 'above' if mean > 0 else 'below'


def compare(measured: Measured, row: str = 'pro') -> Iterator[tuple[str, dict[str, str], list[float]]]:
    """Every other row, column, and the differences of ``row`` and it, seed by seed."""
    for column in measured.columns():
        there = measured.values(measured.rows, column)  # some tunings a backbone cannot have
        one = measured.scores({**column, measured.rows: row})
        for other in (*PAPER, *OURS):
            if other in there:
                yield other, column, paired(one, measured.scores({**column, measured.rows: other}))


def claims_table(measured: Measured, row: str = 'pro') -> str:
    """A Markdown table of the differences, each with what it says of the claim."""
    columns = measured.columns()
    lines = [
        '| against | paper | ' + ' | '.join(', '.join(c.values()) for c in columns) + ' |',
        '|---|---|' + '---|' * len(columns),
    ]
    found = {(other, tuple(column.items())): d for other, column, d in compare(measured, row)}
    for other in (*PAPER, *OURS):
        cells = []
        for column in columns:
            differences = found.get((other, tuple(column.items())))
            cells.append(f'{spread(differences, "+")} {_mark(other, differences)}'.strip() if differences else '–')
        claim = '≥' if other == 'full' else ('>' if other in PAPER else '')
        lines.append(f'| {other} | {claim} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def agreement(measured: Measured, against: str = 'all', row: str = 'pro') -> dict[str, int]:
    """How many of the paper's comparisons came out as it says, beyond the spread, and the other way.

    Args:
        measured (Measured): The study.
        against (str): A key of ``AGAINST``. Defaults to ``'all'``.
        row (str): What is compared. Defaults to ``'pro'``.
    """
    counts = {'agrees': 0, 'open': 0, 'contradicts': 0}
    for other, _, differences in compare(measured, row):
        if other in AGAINST[against]:
            counts[MEANINGS[verdict(differences)]] += 1
    return counts


def _mark(other: str, differences: list[float]) -> str:
    said = verdict(differences)
    marks = {'above': '✓', 'even': '≈', 'below': '✗'} if other in PAPER else {'even': '≈'}
    return marks.get(said, '')
