"""Draws what the prompts change in the features of one image: one column per stage."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from protuning_lab.pictures.figures import FAINT, INK, new_figure
from protuning_lab.pictures.model_input import ModelInput
from protuning_lab.pictures.stage_changes import StageMaps

SCALES = ('stage', 'shared')
_PROMPT, _FEATURE, _CHANGE = 'inferno', 'viridis', 'RdBu_r'
_WIDTH = 2.5  # of a map, in inches


def draw_prompts(
    image: ModelInput, stages: Sequence[StageMaps], cells: Sequence[tuple[float, ...]], title: str, scale: str = 'stage'
) -> Any:
    """Draw the norms of prompts and feature maps over an image.

    The colours of a prompt start at zero. They end at the maximum of the stage, because norms of different stages
    already differ by their numbers of channels, or at one maximum for all stages. The feature maps before and after the
    prompt share a scale from their minimum to their maximum, so every visible change comes from the prompt. Their
    difference is below, white where it is zero.

    Args:
        image (ModelInput): The image.
        stages (Sequence[StageMaps]): The maps, one column each.
        cells (Sequence[tuple]): Vertical and horizontal stride of each stage's maps, in pixels.
        title (str): The title of the figure.
        scale (str): Colour scale of the prompts: ``'stage'`` or ``'shared'``. Defaults to ``'stage'``.

    Returns:
        Figure: The matplotlib figure.
    """
    height, width = image.pixels.shape[:2]
    tall = _WIDTH * min(max(height / width, 0.4), 1.6)
    figure = new_figure((_WIDTH + 0.45) * (len(stages) + 1), 4 * tall + 1.9)
    figure.suptitle(title, fontsize=12, color=INK, x=0.01, ha='left')
    grid = figure.subplots(4, len(stages) + 1, squeeze=False)
    _draw_image(grid[0][0], image)
    _draw_ratios(grid[1][0], stages)
    _explain(grid[2][0], scale, padded=image.shown != (height, width))
    grid[3][0].axis('off')
    shared = max(float(stage.prompt.max()) for stage in stages)
    for column, (stage, cell) in enumerate(zip(stages, cells), 1):
        top = shared if scale == 'shared' else float(stage.prompt.max())
        low = float(min(stage.before.min(), stage.after.min()))
        high = float(max(stage.before.max(), stage.after.max()))
        prompt, before, after, change = grid[:, column]
        shown = _draw_map(prompt, image, stage.prompt, cell, _PROMPT, (0.0, top or 1.0))
        _bar(figure, shown, [prompt])
        for axes, norms in ((before, stage.before), (after, stage.after)):
            shown = _draw_map(axes, image, norms, cell, _FEATURE, (low, high if high > low else low + 1.0))
        _bar(figure, shown, [before, after])
        difference = stage.after - stage.before
        most = float(np.abs(difference).max()) or 1.0
        _bar(figure, _draw_map(change, image, difference, cell, _CHANGE, (-most, most), lines='black'), [change])
        places = f'{stage.prompt.shape[0]}×{stage.prompt.shape[1]}'
        prompt.set_title(f'stage {stage.stage + 1}\n{stage.channels} channels, {places}', fontsize=9, color=INK)
        prompt.set_xlabel(f'|P(x)| / |x| = {stage.ratio:.3g}' if top else 'no prompt: all zero', fontsize=9, color=INK)
    name = '|P(x)|' if all(stage.tuning == 'pro' for stage in stages) else '|p|'
    after = f'|x + {name[1:]}'
    rows = f'prompt  {name}', 'feature before  |x|', f'feature after  {after}', f'{after} − |x|'
    for axes, text in zip(grid[:, 1], rows):
        axes.set_ylabel(text, fontsize=10, color=INK)
    return figure


def _draw_image(axes: Any, image: ModelInput) -> None:
    height, width = image.pixels.shape[:2]
    axes.imshow(image.pixels, extent=(0, width, height, 0))
    axes.set_title(f'what the model sees\n{width}×{height} pixels', fontsize=9, color=INK)
    _frame(axes, image)
    shown_height, shown_width = image.shown
    for x, y, w, h in (
        (shown_width, 0, width - shown_width, height),
        (0, shown_height, shown_width, height - shown_height),
    ):
        if w > 0 and h > 0:
            axes.fill_between((x, x + w), y, y + h, facecolor='none', edgecolor='white', hatch='///', linewidth=0)


def _draw_map(
    axes: Any,
    image: ModelInput,
    norms: np.ndarray[Any, Any],
    cell: tuple[float, ...],
    colours: str,
    limits: tuple[float, float],
    lines: str = 'white',
) -> Any:
    rows, columns = norms.shape
    extent = (0, columns * cell[1], rows * cell[0], 0)
    shown = axes.imshow(
        norms, cmap=colours, vmin=limits[0], vmax=limits[1], extent=extent, interpolation='nearest', aspect='equal'
    )
    _draw_edges(axes, image, lines)
    _frame(axes, image)
    return shown


def _draw_edges(axes: Any, image: ModelInput, colour: str) -> None:
    """Draw the edges of the image as thin lines, so that the colours of the map stay visible."""
    opacity = compute_edges(image.pixels)
    height, width = opacity.shape
    lines = np.full((height, width, 4), float(colour == 'white'), np.float32)
    lines[..., 3] = opacity
    axes.imshow(lines, extent=(0, width, height, 0), interpolation='bilinear', aspect='equal')


def compute_edges(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Compute the opacity of edges at each pixel, (H, W), from 0 to 0.6."""
    import cv2

    grey = cv2.GaussianBlur(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.0)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    opacity = np.clip(slope / max(float(np.percentile(slope, 98)), 1e-6), 0, 1) ** 2 * 0.6
    return np.where(opacity < 0.08, 0, opacity)  # hide weak edges


def _frame(axes: Any, image: ModelInput) -> None:
    height, width = image.pixels.shape[:2]
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[:].set_color(FAINT)


def _bar(figure: Any, shown: Any, axes: list[Any]) -> None:
    bar = figure.colorbar(shown, ax=axes, fraction=0.05, pad=0.02, aspect=18 * len(axes))
    bar.ax.tick_params(labelsize=7, colors=INK)
    bar.outline.set_visible(False)


def _draw_ratios(axes: Any, stages: Sequence[StageMaps]) -> None:
    names = [str(stage.stage + 1) for stage in stages]
    bars = axes.bar(range(len(stages)), [stage.ratio for stage in stages], color='#d9573f', width=0.6)
    axes.bar_label(bars, [f'{stage.ratio:.2g}' for stage in stages], fontsize=8, color=INK, padding=2)
    axes.set_xticks(range(len(stages)), names, fontsize=8)
    axes.set_title('|P(x)| / |x|  by stage', fontsize=9, color=INK)
    axes.set_yticks([])
    axes.margins(y=0.2)
    axes.spines[['top', 'right', 'left']].set_visible(False)


def _explain(axes: Any, scale: str, padded: bool) -> None:
    scales = 'each stage its own\nscale, from 0' if scale == 'stage' else 'one scale for all\nstages, from 0'
    axes.axis('off')
    text = (
        'Norms over the channels, at\neach place of a stage’s map.\n'
        f'Prompts: {scales}.\nFeatures: before and after\nshare a scale in each stage.\n'
        'Lines: the image’s edges.\n'
        f'{"Hatched: padding." if padded else ""}\n'
        'Below: red where the prompt\nmakes the feature longer,\nblue where shorter.'
    )
    axes.text(0, 0.95, text, va='top', fontsize=8, color=INK, linespacing=1.5, transform=axes.transAxes)
