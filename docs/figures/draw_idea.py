"""Draw docs/figures/idea.png, the README's figure: python docs/figures/draw_idea.py."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

FROZEN, TRAINED, INK = '#d9e6f2', '#f6c177', '#2b2d42'


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    style = 'round,pad=0.02,rounding_size=0.08'
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=colour, ec=INK, lw=1.2))
    axes.text(x + width / 2, y + height / 2, text, ha='center', va='center', fontsize=10, color=INK)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle='-|>', mutation_scale=11, color=INK, lw=1.2))


def main() -> None:
    figure, axes = plt.subplots(figsize=(11.0, 3.7), dpi=150)
    y, height = 2.0, 0.8
    box(axes, 0.0, y, 0.8, height, 'image', 'white')
    box(axes, 1.1, y, 0.8, height, 'stem', FROZEN)
    arrow(axes, (0.8, y + 0.4), (1.1, y + 0.4))
    x = 2.2
    arrow(axes, (1.9, y + 0.4), (x, y + 0.4))
    for i in range(1, 5):
        box(axes, x, y, 0.95, height, f'stage {i}', FROZEN)
        plus = x + 1.5
        arrow(axes, (x + 0.95, y + 0.4), (plus - 0.14, y + 0.4))
        axes.add_patch(plt.Circle((plus, y + 0.4), 0.14, fc='white', ec=INK, lw=1.2))
        axes.text(plus, y + 0.39, '+', ha='center', va='center', fontsize=12, color=INK)
        box(axes, x + 0.62, 0.75, 1.0, 0.6, f'prompt {i}', TRAINED)
        arrow(axes, (x + 1.12, y + 0.4), (x + 1.12, 1.37))
        arrow(axes, (plus, 1.37), (plus, y + 0.26))
        if i < 4:
            arrow(axes, (plus + 0.14, y + 0.4), (plus + 0.5, y + 0.4))
        arrow(axes, (plus, y + 0.54), (plus, 3.12))
        x = plus + 0.5
    axes.add_patch(
        FancyBboxPatch((3.2, 3.14), 6.98, 0.42, boxstyle='round,pad=0.02,rounding_size=0.08', fc=TRAINED, ec=INK)
    )
    axes.text(
        6.69, 3.35, 'neck and heads: boxes, masks, segments, classes', ha='center', va='center',
        fontsize=10, color=INK,
    )  # fmt: skip
    note = 'prompt block:  1×1 conv → 5×5 depth-wise conv → 1×1 conv, starts at zero'
    axes.text(6.3, 0.3, note, ha='center', va='center', fontsize=10, color=INK)
    for left, colour, text in ((0.0, FROZEN, 'frozen'), (1.15, TRAINED, 'trained')):
        axes.add_patch(plt.Rectangle((left, 0.2), 0.22, 0.22, fc=colour, ec=INK, lw=1))
        axes.text(left + 0.32, 0.31, text, va='center', fontsize=10, color=INK)
    axes.set_xlim(-0.1, 10.3)
    axes.set_ylim(0.05, 3.7)
    axes.set_aspect('equal')
    axes.axis('off')
    figure.savefig(Path(__file__).with_name('idea.png'), bbox_inches='tight', facecolor='white')


if __name__ == '__main__':
    main()
