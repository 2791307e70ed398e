"""Draws training images and accuracies of several runs by class."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from protuning_lab.pictures.figures import COLOURS, FAINT, INK, new_figure, style_axes
from protuning_lab.pictures.long_tail import Classes, compute_group_means
from protuning_mm.data.metrics.shot_groups import GROUPS

_SHADES = {'many': '#eef2f7', 'medium': '#ffffff', 'few': '#f7efe5'}
_MAX_BARS = 60  # that one panel can show legibly
_MAX_NAMES = 30  # of classes that fit below the bars
_LINE_HEIGHT = 0.24  # of text, in inches


def draw_long_tail(classes: Classes, runs: Mapping[str, Any], groups: Sequence[str]) -> Any:
    """Draw training images and accuracies by class, ordered by training images; the groups are shaded.

    Args:
        classes (Classes): The training data's classes.
        runs (Mapping[str, ndarray]): Name -> (K,), accuracy of each class in the order of the labels.
        groups (Sequence[str]): ``'many'``, ``'medium'`` or ``'few'`` for each class in the order of the labels.

    Returns:
        Figure: The matplotlib figure.
    """
    number, together = len(classes.names), len(runs) * len(classes.names) <= _MAX_BARS
    panels = 1 if together else len(runs)
    width = min(max(6.5, 0.3 * number * (len(runs) if together else 0.5)), 13.0)
    height = 2.0 + (2.8 if together else 1.5) * panels
    figure = new_figure(width + 2.6, height)
    grid = figure.add_gridspec(
        1 + panels, 2, width_ratios=[width, 2.6], height_ratios=[1.1] + [2.6 if together else 1.4] * panels
    )
    counts = figure.add_subplot(grid[0, 0])
    _draw_counts(counts, classes)
    spans = _spans([groups[label] for label in classes.order])
    axes = [figure.add_subplot(grid[1 + i, 0], sharex=counts) for i in range(panels)]
    for panel in (counts, *axes):
        for group, start, end in spans:
            panel.axvspan(start - 0.5, end + 0.5, color=_SHADES[group], zorder=0)
    for group, start, end in spans:
        narrow = end - start + 1 < 0.05 * number
        counts.set_title(' ', fontsize=9)
        counts.annotate(
            group, ((start + end) / 2, 1.03), xycoords=('data', 'axes fraction'), ha='center', fontsize=9, color=INK,
            rotation=60 if narrow else 0,
        )  # fmt: skip
    for i, (name, accuracy) in enumerate(runs.items()):
        panel = axes[0 if together else i]
        share = 0.8 / len(runs) if together else 0.8
        shift = (i - (len(runs) - 1) / 2) * share if together else 0.0
        colour = COLOURS[i % len(COLOURS)]
        ordered = 100 * accuracy[classes.order]
        panel.bar(np.arange(number) + shift, np.nan_to_num(ordered), width=0.94 * share, color=colour, label=name)
        _mark_absent(panel, ordered, shift)
        for group, start, end in spans:
            mean = compute_group_means(accuracy, groups).get(group)
            if mean is not None:
                panel.plot((start - 0.5, end + 0.5), (100 * mean,) * 2, '--', color=colour, linewidth=1, alpha=0.9)
        if not together:
            panel.set_title(name, fontsize=9, color=colour, loc='left')
    for panel in axes:
        style_axes(panel)
        panel.set(ylim=(0, 100), xlim=(-0.5, number - 0.5))
        panel.set_ylabel('accuracy, %', fontsize=9, color=INK)
        panel.tick_params(labelbottom=panel is axes[-1], bottom=False)
    _name_classes(axes[-1], classes)
    _write_means(figure.add_subplot(grid[:, 1]), runs, groups, height)
    return figure


def _draw_counts(axes: Any, classes: Classes) -> None:
    ordered = classes.images[classes.order]
    style_axes(axes)
    named = len(ordered) <= _MAX_NAMES
    # a line, because the length of a bar means nothing on a logarithmic axis
    axes.plot(range(len(ordered)), ordered, color=INK, linewidth=1.4, marker='o' if named else None, markersize=4)
    if named:
        for place, images in enumerate(ordered):
            axes.annotate(
                f'{images}', (place, images), (0, 5), textcoords='offset points', ha='center', fontsize=7.5, color=INK
            )
    if ordered.min() > 0 and ordered.max() > 10 * ordered.min():
        axes.set_yscale('log')
        axes.set_ylim(0.6 * ordered.min(), 3 * ordered.max())
        axes.yaxis.set_major_formatter('{x:.0f}')
    else:
        axes.set_ylim(0, 1.35 * max(ordered.max(), 1))
    axes.set_ylabel('training\nimages', fontsize=9, color=INK)
    axes.tick_params(labelbottom=False, bottom=False)


def _mark_absent(axes: Any, ordered: np.ndarray[Any, Any], shift: float) -> None:
    """Mark classes without test images, whose accuracy is unknown rather than zero."""
    for place in np.flatnonzero(np.isnan(ordered)):
        axes.annotate('×', (place + shift, 1), ha='center', fontsize=8, color=FAINT)


def _spans(groups: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return for each sequence of equal groups: group, first and last position."""
    spans, start = [], 0
    for group, members in groupby(groups):
        length = len(list(members))
        spans.append((group, start, start + length - 1))
        start += length
    return spans


def _name_classes(axes: Any, classes: Classes) -> None:
    ordered = [classes.names[label] for label in classes.order]
    if len(ordered) <= _MAX_NAMES:
        slanted = max(map(len, ordered)) > 4
        axes.set_xticks(
            range(len(ordered)), ordered, fontsize=8,
            rotation=40 if slanted else 0, ha='right' if slanted else 'center',
        )  # fmt: skip
    axes.set_xlabel(f'{len(ordered)} classes, from most training images to fewest', fontsize=9, color=INK)


def _write_means(axes: Any, runs: Mapping[str, Any], groups: Sequence[str], height: float) -> None:
    """Write the group means, two lines per run; this is also the legend.

    Args:
        axes (Axes): An empty axes.
        runs (Mapping[str, ndarray]): Name -> accuracy of each class.
        groups (Sequence[str]): The group of each class.
        height (float): Height of the figure in inches.
    """
    axes.axis('off')
    axes.set(xlim=(0, 1), ylim=(0, 1))
    means = {name: compute_group_means(accuracy, groups) for name, accuracy in runs.items()}
    columns = [*(group for group in GROUPS if any(group in mean for mean in means.values())), 'all']
    line = min(_LINE_HEIGHT / height, 0.9 / (2.2 * len(runs) + 4))

    def write(x: float, row: float, text: str, colour: str = INK, **kwargs: Any) -> None:
        axes.text(x, 0.97 - line * row, text, color=colour, va='top', **{'fontsize': 9, **kwargs})

    write(0, 0, 'mean over classes, %')
    for j, column in enumerate(columns):
        write(0.22 + 0.26 * j, 1.2, column, FAINT, ha='right')
    for i, (name, mean) in enumerate(means.items()):
        write(0, 2.4 + 2.2 * i, f'■ {name}', COLOURS[i % len(COLOURS)], weight='bold')
        for j, column in enumerate(columns):
            write(0.22 + 0.26 * j, 3.4 + 2.2 * i, f'{100 * mean[column]:.1f}' if column in mean else '–', ha='right')
    absent = any(np.isnan(accuracy).any() for accuracy in runs.values())
    key = '- -  mean of the group' + ('\n×  no test images' if absent else '')
    write(0, 2.8 + 2.2 * len(runs), key, FAINT, fontsize=8)
