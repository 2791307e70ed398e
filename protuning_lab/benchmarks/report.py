"""The table and the plot of the benchmark of frozen execution."""

import argparse
import os
from pathlib import Path
from statistics import median
from typing import Any

import torch

from protuning_lab.benchmarks.models import EFFICIENT, PLAIN
from protuning_lab.hardware import get_processor_name
from protuning_lab.measure import median_ratio

COLUMNS = {
    'peak': 'peak MiB',
    'kept': 'kept MiB',
    'forward': 'forward ms',
    'backward': 'backward ms',
    'step': 'step ms',
    'evaluation': 'evaluation ms',
    'error': 'gradient error',
}


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Format a Markdown table.

    A cell holds a measured value and, in brackets, its ratio to plain frozen execution. The ratio of evaluation is to
    the host library's model.
    """
    extra = ['largest batch'] if any('largest batch' in row for row in rows.values()) else []
    columns = [c for c in COLUMNS if any(c in row or c in row.get('seconds', {}) for row in rows.values())] + extra
    lines = ['| |' + '|'.join(f' {COLUMNS.get(c, c)} ' for c in columns) + '|', '|---|' + '---:|' * len(columns)]
    for name, row in rows.items():
        cells = []
        for column in columns:
            base = rows.get('no tuning, host' if column == 'evaluation' else PLAIN, {})
            if column == 'error':
                cells.append(f'{row[column]:.0e}' if column in row else '')
                continue
            value, ratio = _value(row, base, column)
            cells.append('' if value is None else f'{value:.0f}' + (f' ({ratio:.3f})' if ratio else ''))
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _value(row: dict[str, Any], base: dict[str, Any], column: str) -> tuple[float | None, float | None]:
    if column in row:
        return row[column], row[column] / base[column] if base.get(column) else None
    times = row.get('seconds', {}).get(column)
    if times is None:
        return None, None
    other = base.get('seconds', {}).get(column)
    return 1000 * median(times), median_ratio(times, other) if other else None


def machine(args: argparse.Namespace) -> dict[str, Any]:
    """Describe the hardware and software of the measurements."""
    name = torch.cuda.get_device_name() if args.device.type == 'cuda' else get_processor_name()
    return dict(device=name, threads=torch.get_num_threads(), cores=os.cpu_count(), torch=torch.__version__)


def plot(results: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Draw peak memory, memory kept for the backward pass and step time of every method as bars."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    columns = ['peak', 'kept', 'step']
    figure, axes = plt.subplots(
        len(results), 3, figsize=(12, 1 + 2.6 * len(results)), squeeze=False, layout='constrained'
    )
    for (title, rows), line in zip(results.items(), axes):
        for axis, column in zip(line, columns):
            found = {n: _value(row, {}, column)[0] for n, row in rows.items()}
            found = {n: v for n, v in found.items() if v is not None}
            colors = ['tab:blue' if name == EFFICIENT else 'lightsteelblue' for name in found]
            bars = axis.barh(list(found), list(found.values()), color=colors)
            axis.bar_label(bars, fmt='%.0f', padding=3)
            axis.set(title=f'{title}: {COLUMNS[column]}')
            axis.invert_yaxis()
            axis.margins(x=0.15)
            axis.tick_params(axis='y', labelleft=column == columns[0])
    figure.savefig(path, dpi=120)
    plt.close(figure)
