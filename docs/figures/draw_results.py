"""Draw docs/figures/results.png, the README's results: python docs/figures/draw_results.py.

Predictions come from bccd.jpg, memory from the table of docs/performance.md, accuracies from docs/evidence/*.csv.
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

DOCS = Path(__file__).resolve().parents[1]
PRO, OTHER, INK = '#d55e00', '#9aa5b1', '#2b2d42'
# row of docs/performance.md's table of a ResNet-50: text of the bar
BARS = {
    'full fine-tuning': 'full fine-tuning',
    'Pro-Tuning, plain torch': 'frozen with\nrequires_grad=False',
    'Pro-Tuning, checkpointed stages': 'the same,\ncheckpointed',
    'Pro-Tuning, efficient': 'Pro-Tuning here',
}
FAMILIES = {'pro': 'Pro-Tuning', 'lora': 'LoRA', 'conv_adapter': 'Conv-Adapter', 'ssf': 'SSF'}
STYLES = {'pro': (PRO, 'o'), 'lora': ('#0072b2', 's'), 'conv_adapter': ('#009e73', '^'), 'ssf': ('#555b66', 'D')}
TILE, GAP, TOP = (320, 240), 6, 26  # pixels of bccd.jpg: a tile, between tiles, above them


def draw_predictions(axes: list[Axes]) -> None:
    image = plt.imread(DOCS / 'figures/bccd.jpg')
    (width, height), row = TILE, 3
    top = TOP + row * (height + GAP)
    for ax, column, title in zip(axes, (0, 2), ('ground truth', 'predicted by Pro-Tuning')):
        left = column * (width + GAP)
        ax.imshow(image[top : top + height, left : left + width])
        ax.set_title(title, fontsize=9, color=INK)
        ax.axis('off')


def read_peaks() -> dict[str, float]:
    """Return the peak memory in MiB of each row in ``BARS``."""
    text = (DOCS / 'performance.md').read_text()
    found = {name: re.search(rf'^\| {re.escape(name)} \| ([\d.]+) \(', text, re.MULTILINE) for name in BARS}
    missing = [name for name, match in found.items() if match is None]
    if missing:
        raise LookupError(f'docs/performance.md has no row {missing[0]!r}')
    return {name: float(match[1]) for name, match in found.items() if match}


def draw_memory(ax: Axes) -> None:
    peaks = read_peaks()
    names = list(peaks)[::-1]
    colours = [PRO if name.endswith('efficient') else OTHER for name in names]
    ax.barh([BARS[name] for name in names], [peaks[name] for name in names], color=colours)
    for i, name in enumerate(names):
        ax.text(peaks[name] + 15, i, f'{peaks[name]:.0f}', va='center', fontsize=9, color=INK)
    ax.set_xlim(0, 1130)
    ax.set_xticks([])
    ax.set_title('Peak memory of a training step, MiB\nResNet-50, 2 × 512 × 512', fontsize=9, color=INK)
    ax.tick_params(labelsize=9, length=0, labelcolor=INK)


def read_curve() -> pd.DataFrame:
    """Return trained parameters, mean and standard deviation of the accuracy of each setting on the test set."""
    runs = pd.read_csv(DOCS / 'evidence/lite_curve.csv')
    runs = runs[(runs.split == 'test') & (runs.metric == 'accuracy/top1') & runs.chosen]
    curve = runs.groupby(['tuning', 'trained_parameters']).value.agg(['mean', 'std']).reset_index()
    curve['family'] = curve.tuning.str.partition('-')[0]
    return curve.sort_values('trained_parameters')


def draw_curve(ax: Axes) -> None:
    for family, points in read_curve().groupby('family'):
        colour, marker = STYLES[family]
        style = dict(color=colour, marker=marker, markersize=5, linewidth=1.5, capsize=2, elinewidth=1)
        ax.errorbar(points.trained_parameters, points['mean'], points['std'], label=FAMILIES[family], **style)
    ax.set_xscale('log')
    ax.set_xlabel('trained parameters, head included', fontsize=9, color=INK)
    ax.set_title('CIFAR-10, 1,000 training images, top-1 %\nEfficientNet-Lite0, 3 seeds', fontsize=9, color=INK)
    ax.legend(fontsize=8, frameon=False, loc='lower right')
    ax.tick_params(labelsize=8, labelcolor=INK)
    ax.grid(alpha=0.25)


def main() -> None:
    figure = plt.figure(figsize=(12.0, 3.6), dpi=130)
    # the second and the fourth column are room for the labels of the axes
    grid = figure.add_gridspec(2, 5, width_ratios=(1.0, 0.55, 1.0, 0.15, 1.6), hspace=0.22, wspace=0.05)
    draw_predictions([figure.add_subplot(grid[i, 0]) for i in range(2)])
    panels = [figure.add_subplot(grid[:, i]) for i in (2, 4)]
    draw_memory(panels[0])
    draw_curve(panels[1])
    for ax in panels:
        for side in ('top', 'right', *(('bottom',) if ax is panels[0] else ())):
            ax.spines[side].set_visible(False)
    figure.savefig(DOCS / 'figures/results.png', bbox_inches='tight', facecolor='white')


if __name__ == '__main__':
    main()
