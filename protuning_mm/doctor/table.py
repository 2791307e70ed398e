"""A report as text of a hundred columns, or as JSON."""

from dataclasses import asdict
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protuning_mm.doctor.estimates import Estimates
from protuning_mm.doctor.examination import Report
from protuning_mm.doctor.findings import LEVELS

WIDTH = 100


def as_text(report: Report) -> str:
    """Format the findings as a table, the estimates below it."""
    table = Table(box=box.ASCII2, width=WIDTH, show_lines=True)
    table.add_column('level', width=7)
    table.add_column('where, and what was found', ratio=5, overflow='fold')
    table.add_column('what to change', ratio=3, overflow='fold')
    for finding in report.findings:
        cells = (finding.level, f'{finding.where}\n{finding.found}', finding.advice or '-')
        table.add_row(*(Text(cell) for cell in cells))  # Text: a [ is no markup
    out = StringIO()
    Console(file=out, width=WIDTH, color_system=None, force_terminal=False).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    if report.estimates is not None:
        lines += ['', *_lines(report.estimates)]
    counts = {level: report.count(level) for level in LEVELS}
    counted = [f'{n} {level}{"s" if n != 1 and level != "info" else ""}' for level, n in counts.items()]
    return '\n'.join([*lines, '', ', '.join(counted)])


def as_dict(report: Report) -> dict[str, Any]:
    """The report for a machine; sizes in bytes."""
    return dict(
        findings=[asdict(finding) for finding in report.findings],
        estimates=None if report.estimates is None else report.estimates.to_dict(),
        counts={level: report.count(level) for level in LEVELS},
    )


def _lines(found: Estimates) -> list[str]:
    rows = [
        ('trained', f'{found.trained:,} parameters; frozen {found.frozen:,}'),
        ('a file of what is trained', _pair(found.delta, found.delta_with_optimizer)),
        ('a whole checkpoint', _pair(found.checkpoint, found.checkpoint_with_optimizer)),
    ]
    memory = 'not determined' if found.memory is None else f'about {_size(found.memory)} a device'
    rows.append(('memory of a training step', memory))
    rows = [(f'{name:<26}', text) for name, text in rows]
    method = Text(f'({found.method})')
    wrapped = method.wrap(Console(width=WIDTH), WIDTH - 28)
    return [name + '  ' + text for name, text in rows] + [f'{"":28}{line.plain.rstrip()}' for line in wrapped]


def _pair(without: int, with_optimizer: int | None) -> str:
    said = _size(without)
    return said if with_optimizer is None else f'{said}; with the state of the optimizer {_size(with_optimizer)}'


def _size(count: int) -> str:
    return f'{count / 2**30:.2f} GiB' if count >= 2**30 else f'{count / 2**20:.1f} MiB'
