"""Compares the paper's ranking with the measured one, claim by claim."""

import math
import statistics
from collections.abc import Iterator

from scipy import stats

from studies.results import Measured, format_mean, paired_differences

# The paper's claims: Pro-Tuning is at least as good as full fine-tuning and better than the others. Norm tuning,
# Conv-Adapter, VPT, LoRA and SSF are not in its comparison; for them the table only shows the difference.
PAPER = ('full', 'linear', 'partial', 'bias', 'side', 'adapter', 'adaptformer')
OURS = ('norm', 'conv_adapter', 'vpt', 'lora', 'ssf')
AGAINST = {'all': PAPER, 'full': ('full',), 'others': tuple(name for name in PAPER if name != 'full')}
# A difference from full fine-tuning that may be zero does not prove "at least as good", so it counts as open too.
MEANINGS = {'above': 'agrees', 'even': 'open', 'below': 'contradicts'}


def verdict(differences: list[float]) -> str:
    """Return ``above`` or ``below`` if Student's t-test at 5 % distinguishes the mean from zero, otherwise ``even``."""
    if len(differences) < 2:
        return 'even'
    mean, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    if abs(mean) <= stats.t.ppf(0.975, len(differences) - 1) * error:
        return 'even'
    return 'above' if mean > 0 else 'below'


def compare(measured: Measured, row: str = 'pro') -> Iterator[tuple[str, dict[str, str], list[float]]]:
    """Yield for every other row and column: the row, the column, and the differences ``row`` minus it per seed."""
    for column in measured.columns():
        available = measured.values(measured.rows, column)  # not every tuning fits every backbone
        one = measured.scores({**column, measured.rows: row})
        for other in (*PAPER, *OURS):
            if other in available:
                yield other, column, paired_differences(one, measured.scores({**column, measured.rows: other}))


def claims_table(measured: Measured, row: str = 'pro') -> str:
    """Format a Markdown table of the differences, each marked with its verdict on the paper's claim."""
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
            cells.append(f'{format_mean(differences, "+")} {_mark(other, differences)}'.strip() if differences else '–')
        claim = '≥' if other == 'full' else ('>' if other in PAPER else '')
        lines.append(f'| {other} | {claim} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def agreement(measured: Measured, against: str = 'all', row: str = 'pro') -> dict[str, int]:
    """Count the comparisons that agree with the paper's claims, are open, or contradict them.

    Args:
        measured (Measured): The study.
        against (str): A key of ``AGAINST``. Defaults to ``'all'``.
        row (str): The row to compare. Defaults to ``'pro'``.
    """
    counts = {'agrees': 0, 'open': 0, 'contradicts': 0}
    for other, _, differences in compare(measured, row):
        if other in AGAINST[against]:
            counts[MEANINGS[verdict(differences)]] += 1
    return counts


def _mark(other: str, differences: list[float]) -> str:
    result = verdict(differences)
    marks = {'above': '✓', 'even': '≈', 'below': '✗'} if other in PAPER else {'even': '≈'}
    return marks.get(result, '')
