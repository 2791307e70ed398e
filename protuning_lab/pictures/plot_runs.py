"""``tools/analysis_tools/plot_runs.py``: plot training curves of several runs."""

import argparse
import math
from collections.abc import Sequence
from typing import Any

from protuning_lab.pictures.figures import (
    INK,
    PictureError,
    check_format,
    line_style,
    new_figure,
    save_figure,
    spread_labels,
    style_axes,
)
from protuning_lab.pictures.run_logs import Curve, Run, find_runs, mean_curve, smooth
from protuning_mm.cli.command import command

_HEIGHT = 3.6  # of a panel, in inches
_LABEL_HEIGHT = 0.055  # as a share of the panel's height


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Plot training curves of several runs',
        epilog='example: plot_runs.py work_dirs/pro work_dirs/linear --metric loss accuracy/top1 --smooth 0.8 '
        '--out curves.png',
    )
    parser.add_argument(
        'runs', nargs='+', metavar='RUN_DIR', help='work dirs of tools/train.py, or the work dir of compare_runs.py'
    )
    parser.add_argument(
        '--metric', nargs='+', required=True, help='metrics such as loss, accuracy/top1, mIoU; one panel each'
    )
    parser.add_argument('--out', required=True, help='output file, .png or .svg')
    parser.add_argument('--names', nargs='+', help="one name per run (default: the folders' names)")
    parser.add_argument(
        '--smooth',
        type=float,
        default=0,
        metavar='W',
        help='smoothing of training metrics, from 0 (default, none) to below 1',
    )
    parser.add_argument('--log', nargs='*', default=[], metavar='METRIC', help='metrics on a logarithmic axis')
    return parser.parse_args(argv)


def plot_runs(runs: Sequence[Run], metrics: Sequence[str], smoothing: float = 0, log: Sequence[str] = ()) -> Any:
    """Plot metrics of runs: one panel per metric, each curve with its name at its end.

    Runs whose names differ only in the seed share a colour. Each is a thin line, and their mean is a thick line.

    Args:
        runs (Sequence[Run]): The runs.
        metrics (Sequence[str]): The metrics to plot.
        smoothing (float): Weight of the moving average of training metrics. A faint line shows the raw values.
            Validation metrics are not smoothed. Defaults to 0.
        log (Sequence[str]): Metrics with a logarithmic axis. Defaults to none.

    Returns:
        Figure: The matplotlib figure.

    Raises:
        PictureError: a run did not log a metric, runs count its steps in different units, or an argument is invalid.
    """
    if not 0 <= smoothing < 1:
        raise PictureError(f'--smooth {smoothing}: must be from 0 to below 1')
    if unknown := [metric for metric in log if metric not in metrics]:
        raise PictureError(f'--log {" ".join(unknown)}: not among --metric {" ".join(metrics)}')
    curves = {metric: [run.curve(metric) for run in runs] for metric in metrics}
    figure = new_figure(5.6 * len(metrics), _HEIGHT)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics):
        _draw_panel(figure, axes, metric, runs, curves[metric], smoothing, metric in log)
    return figure


def _draw_panel(
    figure: Any, axes: Any, metric: str, runs: Sequence[Run], curves: Sequence[Curve], smoothing: float, log: bool
) -> None:
    units = {curve.unit for curve in curves}
    if len(units) > 1:
        counted = ', '.join(f'{run.name} by {curve.unit}' for run, curve in zip(runs, curves))
        raise PictureError(f'the steps of {metric!r} have different units: {counted}. Plot these runs separately')
    style_axes(axes)
    groups: dict[str, list[Curve]] = {}
    for run, curve in zip(runs, curves):
        groups.setdefault(run.group, []).append(curve)
    # a run without others in its group keeps its full name, including the seed
    full_names = {run.group: run.name for run in runs}
    ends: list[tuple[str, str, Curve]] = []
    for i, (name, members) in enumerate(groups.items()):
        colour, dashes = line_style(i)
        shown = [_smoothed(curve, smoothing) for curve in members]
        several = len(members) > 1
        for raw, curve in zip(members, shown):
            if curve is not raw:
                axes.plot(raw.steps, raw.values, dashes, color=colour, linewidth=0.8, alpha=0.25)
            _draw_curve(axes, curve, colour, dashes, 0.9 if several else 1.8, 0.45 if several else 1)
        whole = mean_curve(shown) if several else shown[0]
        if several and whole.steps:
            _draw_curve(axes, whole, colour, dashes, 2.2, 1)
        label = f'{name}, mean of {len(members)}' if several else full_names[name]
        ends.append((label, colour, whole if whole.steps else shown[0]))
    if log:
        axes.set_yscale('log')
    axes.set_title(metric, fontsize=11, color=INK, loc='left')
    axes.set_xlabel(next(iter(units)), fontsize=9, color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(x=0.02)
    _label_ends(axes, ends)


def _draw_curve(axes: Any, curve: Curve, colour: str, dashes: str, width: float, alpha: float) -> None:
    marker = 'o' if not curve.trained or len(curve.steps) == 1 else None
    axes.plot(
        curve.steps, curve.values, dashes, color=colour, linewidth=width, alpha=alpha, marker=marker, markersize=3.5
    )


def _smoothed(curve: Curve, weight: float) -> Curve:
    if not weight or not curve.trained:
        return curve
    return Curve(curve.steps, smooth(curve.values, weight), curve.unit, curve.trained)


def _label_ends(axes: Any, ends: Sequence[tuple[str, str, Curve]]) -> None:
    """Write each curve's name beside its end, without overlaps."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # keep the limits from here on
    to_axes = axes.transData + axes.transAxes.inverted()
    places = []
    for _, _, curve in ends:
        finite = [(step, value) for step, value in zip(curve.steps, curve.values) if math.isfinite(value)]
        places.append(to_axes.transform(finite[-1]) if finite else (1.0, 0.5))
    for (name, colour, _), (x, y), height in zip(ends, places, spread_labels([y for _, y in places], _LABEL_HEIGHT)):
        axes.annotate(
            name,
            xy=(x, y),
            xytext=(1.04, height),
            xycoords='axes fraction',
            textcoords='axes fraction',
            fontsize=8.5,
            color=colour,
            va='center',
            annotation_clip=False,
            arrowprops=dict(arrowstyle='-', color=colour, linewidth=0.6, alpha=0.6, shrinkA=1, shrinkB=2),
        )


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    check_format(args.out)
    runs = find_runs(args.runs, args.names)
    save_figure(plot_runs(runs, args.metric, args.smooth, args.log), args.out)
    print(f'{len(runs)} runs ({", ".join(run.name for run in runs)}) plotted in {args.out}')


if __name__ == '__main__':
    main()
