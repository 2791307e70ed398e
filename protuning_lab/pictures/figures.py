"""What all figures share: the error class, colours, axis style, label spacing, and atomic saving."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protuning_mm.data import DataError
from protuning_mm.weights.atomic import write_atomically

# the colour-blind palette of Okabe and Ito; further runs repeat the colours with dashes
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')
DASHES = ('-', '--', ':', '-.')
INK, FAINT = '#2b2d42', '#8d99ae'
FORMATS = ('.png', '.svg')


class PictureError(DataError):
    """The data to draw are missing or do not fit."""


def new_figure(width: float, height: float) -> Any:
    """Create a figure that does not use pyplot's global state.

    Args:
        width (float): Width in inches.
        height (float): Height in inches.

    Raises:
        PictureError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PictureError('pictures need the package matplotlib: pip install matplotlib') from None
    return Figure(figsize=(width, height), layout='constrained', facecolor='white')


def check_format(path: str | Path) -> None:
    """Check the suffix of an output file before the work starts.

    Raises:
        PictureError: the suffix is neither ``.png`` nor ``.svg``.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise PictureError(f'--out {path}: must end in {" or ".join(FORMATS)}')


def save_figure(figure: Any, path: str | Path, dpi: int = 130) -> None:
    """Write a figure atomically in the format of the file's suffix. The same figure gives the same bytes.

    Raises:
        OSError: the file cannot be written.
    """
    from matplotlib import rc_context

    buffer, form = io.BytesIO(), Path(path).suffix.lower()[1:]
    own = dict(metadata={'Date': None}) if form == 'svg' else dict(pil_kwargs=dict(optimize=True))
    with rc_context({'svg.hashsalt': 'protuning_mm'}):
        figure.savefig(buffer, format=form, dpi=dpi, **own)
    write_atomically(buffer.getvalue(), path)


def style_axes(axes: Any) -> None:
    """Remove the upper and right frame, and draw a light grid behind the data."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(axis='y', color='#e5e7eb', linewidth=0.8)
    axes.set_axisbelow(True)


def line_style(i: int) -> tuple[str, str]:
    """Return colour and line style of the i-th run."""
    return COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]


def spread_labels(wanted: Sequence[float], gap: float) -> list[float]:
    """Move positions apart to a minimum distance. Their order stays, and they move as little as needed.

    Args:
        wanted (Sequence[float]): The preferred positions.
        gap (float): The minimum distance.

    Returns:
        list[float]: The new position for each of ``wanted``.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # clusters of positions that touch each other: the sum of their wanted positions, and their indices in order
    clusters: list[tuple[float, list[int]]] = []
    for i in order:
        total, members = wanted[i], [i]
        while clusters:
            before, inside = clusters[-1]
            if before / len(inside) + gap * (len(inside) - 1) / 2 + gap <= (
                total / len(members) - gap * (len(members) - 1) / 2
            ):
                break
            clusters.pop()
            total, members = before + total, inside + members
        clusters.append((total, members))
    placed = [0.0] * len(wanted)
    for total, members in clusters:
        for rank, i in enumerate(members):
            placed[i] = total / len(members) + gap * (rank - (len(members) - 1) / 2)
    return placed
