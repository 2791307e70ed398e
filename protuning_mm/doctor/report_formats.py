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
    console = Console(file=out, width=WIDTH, color_system=None, force_terminal=False)
    console.print(table)
    console.print()
    if report.estimates is not None:
        console.print(_tabulate_estimates(report.estimates, report.tunings))
        console.print()
    counts = {level: report.count(level) for level in LEVELS}
    console.print(', '.join(f'{n} {level}{"s" if n != 1 and level != "info" else ""}' for level, n in counts.items()))
    return '\n'.join(line.rstrip() for line in out.getvalue().splitlines())


def report_to_dict(report: Report) -> dict[str, Any]:
    """Convert a report to a dict of JSON types, with sizes in bytes."""
    return dict(asdict(report), counts={level: report.count(level) for level in LEVELS})


def _tabulate_estimates(estimates: Estimates, tunings: str) -> Table:
    memory = 'not determined' if estimates.memory is None else f'about {_format_size(estimates.memory)} per device'
    table = Table.grid(padding=(0, 2))
    table.add_column(width=26)
    table.add_row('trained', f'{estimates.trained:,} parameters; frozen {estimates.frozen:,}')
    table.add_row('a file of trained tensors', _format_sizes(estimates.delta, estimates.delta_with_optimizer))
    table.add_row('a whole checkpoint', _format_sizes(estimates.checkpoint, estimates.checkpoint_with_optimizer))
    table.add_row('memory of a training step', memory)
    table.add_row('', Text(f'({estimates.method})'))
    if tunings:
        table.add_row('other tunings', Text(tunings))
    return table


def _format_sizes(size: int, with_optimizer: int | None) -> str:
    text = _format_size(size)
    return text if with_optimizer is None else f'{text}; with the optimizer state {_format_size(with_optimizer)}'


def _format_size(count: int) -> str:
    return f'{count / 2**30:.2f} GiB' if count >= 2**30 else f'{count / 2**20:.1f} MiB'
