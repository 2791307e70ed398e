"""Plots a test metric against the number of trained parameters, as in the paper's Figure 1."""

import io
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from protuning_lab.study.label_placement import Box, place_labels
from protuning_lab.study.summary import Overview, Summary
from protuning_lab.study.tables import find_summary, panels

INK = '#1f2430'
# the colour-blind palette of Okabe and Ito without yellow, which is hard to see on white; shapes differ too
_COLOURS = ('#d55e00', '#0072b2', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#7f7f7f')
_SHAPES = ('o', 's', '^', 'D', 'v', 'P', 'X', '<', '>', 'p', 'h', '*', 'd')
_DPI = 100  # used for placing the labels; PNGs have twice this resolution


@dataclass(frozen=True)
class Plot:
    """A plot in three formats.

    Args:
        title (str): Its title.
        png (bytes): PNG with a white background.
        svg (bytes): SVG with a white background.
        inline (str): SVG element for the page, without background and in the page's text colour.
    """

    title: str
    png: bytes
    svg: bytes
    inline: str


@dataclass(frozen=True)
class _Point:
    name: str
    order: int
    parameters: float
    mean: float
    error: float
    highlighted: bool


def draw_plots(overview: Overview) -> dict[str, Plot]:
    """Draw one plot for each test set and each combination of the axes that are neither rows nor columns.

    Returns:
        dict[str, Plot]: File name without suffix -> plot.
    """
    plots = {}
    for test in overview.tests:
        for fixed, columns in panels(overview.study):
            found = [(column, list(_points(overview, test, fixed | column))) for column in columns]
            found = [(column, points) for column, points in found if points]
            if not found:
                continue
            names = [] if overview.tests == ['test'] else [test]
            qualifiers = [f'test set {name}' for name in names] + [f'{axis} {name}' for axis, name in fixed.items()]
            title = ', '.join([f'{overview.metric} against trained parameters', *qualifiers])
            plots['-'.join(['parameters', *names, *fixed.values()])] = _draw(overview, title, found)
    return plots


def _points(overview: Overview, test: str, values: dict[str, str]) -> Iterator[_Point]:
    layout = overview.study.table
    for order, name in enumerate(overview.study.axes[layout.rows]):
        summary: Summary | None = find_summary(overview.summaries, values | {layout.rows: name})
        scores = summary.scores(test, overview.metric) if summary else []
        parameters = summary.median('trained_parameters') if summary else None
        if scores and parameters:
            scores = [score * layout.scale for score in scores]
            error = statistics.stdev(scores) if len(scores) > 1 else 0.0
            yield _Point(name, order, parameters, statistics.fmean(scores), error, name == layout.highlight)


def _draw(overview: Overview, title: str, found: list[tuple[dict[str, str], list[_Point]]]) -> Plot:
    import matplotlib

    last = overview.study.table.columns[-1:]
    width = len(overview.study.axes[last[0]]) if last else 1
    columns = min(len(found), width if 2 <= width <= 3 else 3)
    rows = math.ceil(len(found) / columns)
    settings = {
        'font.family': 'sans-serif',
        'font.size': 10,
        'svg.fonttype': 'none',
        'svg.hashsalt': title,
        'axes.facecolor': 'none',
        'axes.spines.top': False,
        'axes.spines.right': False,
        **dict.fromkeys(('text.color', 'axes.labelcolor', 'axes.edgecolor', 'xtick.color', 'ytick.color'), INK),
    }
    with matplotlib.rc_context(settings):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.4 * columns, 4.1 * rows), dpi=_DPI, layout='constrained')
        canvas = FigureCanvasAgg(figure)
        all_axes = figure.subplots(rows, columns, squeeze=False)
        for axes in all_axes.flat[len(found) :]:
            axes.remove()
        shared = [point.parameters for _, points in found for point in points]
        for i, (axes, (values, points)) in enumerate(zip(all_axes.flat, found)):
            _draw_panel(axes, ', '.join(values.values()), points, (min(shared), max(shared)))
            axes.set_ylabel(overview.metric if i % columns == 0 else '')
            if i + columns >= len(found):
                axes.set_xlabel('trained parameters, head included')
        canvas.draw()
        figure.set_layout_engine('none')  # the layout must not change after the labels are placed
        for axes, (_, points) in zip(all_axes.flat, found):
            _place_labels(axes, points, canvas.get_renderer())
        return Plot(title, _render(figure, 'png'), _render(figure, 'svg'), _render_inline(figure, title))


def _draw_panel(axes: Any, title: str, points: list[_Point], span: tuple[float, float]) -> None:
    axes.set_xscale('log')
    axes.set_title(title, fontsize=10.5, fontweight='bold', loc='left')
    axes.grid(True, which='major', color=INK, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)
    for point in points:
        colour, shape = _COLOURS[point.order % len(_COLOURS)], _SHAPES[point.order % len(_SHAPES)]
        axes.errorbar(
            point.parameters, point.mean, yerr=point.error or None, color=colour, elinewidth=1.4, capsize=3, alpha=0.55
        )
        size = (10 if shape in '*PX' else 7.5) * (1.35 if point.highlighted else 1)
        edge = INK if point.highlighted else 'white'
        axes.plot(point.parameters, point.mean, shape, color=colour, markersize=size, mec=edge, mew=0.8, zorder=3)
    room = max((span[1] / span[0]) ** 0.16, 1.6)
    axes.set_xlim(span[0] / room, span[1] * room)
    low, high = (f(p.mean + s * p.error for p in points) for f, s in ((min, -1), (max, 1)))
    margin = 0.1 * (high - low) or max(abs(high) * 0.05, 0.5)
    axes.set_ylim(low - margin, high + margin)


def _place_labels(axes: Any, points: list[_Point], renderer: Any) -> None:
    """Write each row's name beside its point; connect them with a line if the name is further away."""
    positions = [tuple(axes.transData.transform((p.parameters, p.mean))) for p in points]
    weights = ['bold' if p.highlighted else 'normal' for p in points]
    texts = [
        axes.text(0, 0, p.name, fontsize=9, fontweight=weight, ha='center', va='center')
        for p, weight in zip(points, weights)
    ]
    extents = [text.get_window_extent(renderer) for text in texts]
    sizes = [(extent.width + 2, extent.height + 1) for extent in extents]
    bars = []
    for point in points:
        x, low = axes.transData.transform((point.parameters, point.mean - point.error))
        _, high = axes.transData.transform((point.parameters, point.mean + point.error))
        bars.append(Box(x - 3, low - 1, x + 3, high + 1))
    frame = axes.get_window_extent(renderer)
    boxes = place_labels(positions, sizes, bars, Box(frame.x0 + 2, frame.y0 + 2, frame.x1, frame.y1), radius=6)
    back = axes.transData.inverted()
    for point, position, text, box in zip(points, positions, texts, boxes):
        centre = (box.left + box.right) / 2, (box.bottom + box.top) / 2
        text.set_position(back.transform(centre))
        nearest = min(max(position[0], box.left), box.right), min(max(position[1], box.bottom), box.top)
        if math.dist(position, nearest) > 14:
            ends = back.transform([position, nearest])
            axes.plot(*ends.T, color=_COLOURS[point.order % len(_COLOURS)], linewidth=0.8, alpha=0.7, zorder=1)


def _render(figure: Any, form: str, **kwargs: Any) -> bytes:
    file = io.BytesIO()
    metadata = dict(metadata={'Date': None}) if form == 'svg' else dict(dpi=2 * _DPI)
    figure.savefig(file, format=form, **dict(facecolor='white') | metadata | kwargs)
    return file.getvalue()


def _render_inline(figure: Any, title: str) -> str:
    svg = _render(figure, 'svg', facecolor='none').decode()
    svg = svg[svg.index('<svg') :].replace(INK, 'currentColor').replace('stroke: #ffffff', 'stroke: var(--paper)')
    # for screen readers the plot is one image; the numbers are in the tables
    return svg.replace('<svg ', f'<svg role="img" aria-label="{title}" ', 1)
