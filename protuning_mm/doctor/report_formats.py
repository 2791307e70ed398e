"""The formats of a report: a text of 100 columns, and a dict for JSON."""

from dataclasses import asdict
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from protuning_mm.doctor.checks import Report
from protuning_mm.doctor.estimates import Estimates
from protuning_mm.doctor.findings import LEVELS

WIDTH = 100


def format_report(report: Report) -> str:
    """Format a report as text: a table of the findings, and the estimates below it."""
    table = Table(box=box.ASCII2, width=WIDTH, show_lines=True)
    table.add_column('level', width=7)
    table.add_column('where, and what was found', ratio=5, overflow='fold')
    table.add_column('what to change', ratio=3, overflow='fold')
    for finding in report.findings:
        cells = (finding.level, f'{finding.where}\n{finding.found}', finding.advice or '-')
        table.add_row(*(Text(cell) for cell in cells))  # Text: so that rich does not interpret [ as markup
    out = StringIO()
    Console(file=out, width=WIDTH, color_system=None, force_terminal=False).print(table)
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    if report.estimates is not None:
        lines += ['', *_format_estimates(report.estimates)]
    counts = {level: report.count(level) for level in LEVELS}
    counted = [f'{n} {level}{"s" if n != 1 and level != "info" else ""}' for level, n in counts.items()]
    return '\n'.join([*lines, '', ', '.join(counted)])


def report_to_dict(report: Report) -> dict[str, Any]:
    """Convert a report to a dict of JSON types, with sizes in bytes."""
    return dict(
        findings=[asdict(finding) for finding in report.findings],
        estimates=None if report.estimates is None else report.estimates.to_dict(),
        counts={level: report.count(level) for level in LEVELS},
    )


def _format_estimates(estimates: Estimates) -> list[str]:
    rows = [
        ('trained', f'{estimates.trained:,} parameters; frozen {estimates.frozen:,}'),
        ('a file of trained tensors', _format_sizes(estimates.delta, estimates.delta_with_optimizer)),
        ('a whole checkpoint', _format_sizes(estimates.checkpoint, estimates.checkpoint_with_optimizer)),
    ]
    memory = 'not determined' if estimates.memory is None else f'about {_format_size(estimates.memory)} per device'
    rows.append(('memory of a training step', memory))
    rows = [(f'{name:<26}', text) for name, text in rows]
    method = Text(f'({estimates.method})')
    wrapped = method.wrap(Console(width=WIDTH), WIDTH - 28)
    return [name + '  ' + text for name, text in rows] + [f'{"":28}{line.plain.rstrip()}' for line in wrapped]


def _format_sizes(size: int, with_optimizer: int | None) -> str:
    text = _format_size(size)
    return text if with_optimizer is None else f'{text}; with the optimizer state {_format_size(with_optimizer)}'


def _format_size(count: int) -> str:
    return f'{count / 2**30:.2f} GiB' if count >= 2**30 else f'{count / 2**20:.1f} MiB'
