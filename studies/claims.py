"""The paper's order, claim by claim, against what was measured."""

import math
import statistics
from collections.abc import Iterator

from studies.results import EvidenceError, Measured, paired, spread

# What the paper says of Pro-Tuning against each: at least as good as full fine-tuning, better than the others. Norm
# tuning, Conv-Adapter, VPT, LoRA and SSF are not in its comparison: for them the difference alone is told.
PAPER = ('full', 'linear', 'partial', 'bias', 'side', 'adapter', 'adaptformer')
OURS = ('norm', 'conv_adapter', 'vpt', 'lora', 'ssf')


def verdict(differences: list[float]) -> str:
    """``above``, ``below``, or ``even`` where the mean is less than two standard errors from zero."""
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return 'even'
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return 'even' if abs(mean) <= 2 * error else ('above' if mean > 0 else 'below')


def compare(measured: Measured, row: str = 'pro') -> Iterator[tuple[str, dict[str, str], list[float]]]:
    """Every other row, column, and the differences of ``row`` and it, seed by seed."""
    for other in (*PAPER, *OURS):
        for column in measured.columns():
            try:
                one = measured.scores({**column, measured.rows: row})
                two = measured.scores({**column, measured.rows: other})
            except EvidenceError:  # a tuning that this backbone cannot have
                continue
            yield other, column, paired(one, two)


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


def agreement(measured: Measured, row: str = 'pro') -> dict[str, int]:
    """How many of the paper's comparisons came out as it says, within the spread, and the other way."""
    counts = {'agrees': 0, 'open': 0, 'contradicts': 0}
    for other, _, differences in compare(measured, row):
        if other in PAPER:
            counts[_meaning(other, differences)] += 1
    return counts


def _meaning(other: str, differences: list[float]) -> str:
    said = verdict(differences)
    if said == 'below':
        return 'contradicts'
    return 'agrees' if said == 'above' or other == 'full' else 'open'


def _mark(other: str, differences: list[float]) -> str:
    return {'agrees': '✓', 'open': '≈', 'contradicts': '✗'}[_meaning(other, differences)] if other in PAPER else ''
