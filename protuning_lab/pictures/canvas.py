"""What every picture shares: its errors, its colours, and that its file is whole."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protuning_mm.data import DataError
from protuning_mm.weights.atomic import write_atomically

# told apart by colour-blind people, too (Okabe and Ito); then the same again with dashes
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')
DASHES = ('-', '--', ':', '-.')
INK, FAINT = '#2b2d42', '#8d99ae'
FORMATS = ('.png', '.svg')


class PictureError(DataError):
    """What is to be drawn is not there, or is not what was asked for."""


def new_figure(width: float, height: float) -> Any:
    """A figure of some inches that no window and no global state of matplotlib's knows.

    Raises:
        PictureError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PictureError('pictures need the package matplotlib: pip install matplotlib') from None
    return Figure(figsize=(width, height), layout='constrained', facecolor='white')


def check_format(path: str | Path) -> None:
    """Find out before the work that a picture can be written.

    Raises:
        PictureError: it is neither PNG nor SVG by its ending.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise PictureError(f'--out {path}: must end in {" or ".join(FORMATS)}')


def save(figure: Any, path: str | Path, dpi: int = 130) -> None:
    """Write a figure as its file's ending says, whole or not at all; the same figure gives the same bytes.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib import rc_context

    buffer, form = io.BytesIO(), Path(path).suffix.lower()[1:]
    own = dict(metadata={'Date': None}) if form == 'svg' else dict(pil_kwargs=dict(optimize=True))
    with rc_context({'svg.hashsalt': 'protuning_mm'}):
        figure.savefig(buffer, format=form, dpi=dpi, **own)
    write_atomically(buffer.getvalue(), path)


def plain(axes: Any) -> None:
    """Leave the frame and ticks out that carry nothing."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(axis='y', color='#e5e7eb', linewidth=0.8)
    axes.set_axisbelow(True)


def style(i: int) -> tuple[str, str]:
    """Colour and dashes of the i-th run."""
    return COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Move places apart until neighbours are ``gap`` from each other, in their order, as little as that takes.

    Args:
        wanted (Sequence[float]): Places.
        gap (float): The smallest distance.

    Returns:
        list[float]: A place for each of ``wanted``.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # clusters of places that touch each other: their sum of (place - rank * gap), and their members
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
