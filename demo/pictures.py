"""Figures of the demo: training curves, and predictions next to the ground truth."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from demo.data import PALETTE
from demo.training import Run

matplotlib.use('Agg')
from matplotlib import pyplot as plt

_SCALE = 3  # magnification of the image in a figure
_SCORE = 0.5  # predictions with lower scores are not drawn
_GAP = 12


def draw_curves(runs: Mapping[str, Run], path: Path) -> None:
    """Draw the loss and the mAPs of some runs, one colour per run.

    Args:
        runs (Mapping[str, Run]): The runs by the names that the legend gives them.
        path (Path): PNG file to write.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for i, (name, run) in enumerate(runs.items()):
        scalars = run.scalars()
        steps = [s for s in scalars if 'loss' in s]
        evaluated = [s for s in scalars if 'coco/segm_mAP' in s]
        colour = f'C{i}'
        left.plot([s['iter'] for s in steps], [s['loss'] for s in steps], colour, label=name)
        epochs = [s['step'] for s in evaluated]
        for key, line in (('bbox', '--'), ('segm', '-')):
            values = [s[f'coco/{key}_mAP'] for s in evaluated]
            right.plot(epochs, values, colour, linestyle=line, marker='o', label=f'{name}, {key}')
    left.set(title='loss on the train split', xlabel='iteration', yscale='log')
    right.set(title='mAP on the val split', xlabel='epoch', ylim=(0, None))
    right.xaxis.get_major_locator().set_params(integer=True)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_predictions(data: Path, results: Path, folder: Path, number: int = 8) -> list[Path]:
    """Draw the ground truth on the left and the prediction on the right, for the first validation images.

    Args:
        data (Path): The data set in COCO's layout.
        results (Path): ``….segm.json`` as CocoMetric writes it.
        folder (Path): Folder to write PNG files into.
        number (int): How many images. Defaults to 8.

    Returns:
        list[Path]: The files.
    """
    coco = COCO(str(data / 'annotations/instances_val2017.json'))
    predicted = json.loads(results.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for info in coco.loadImgs(coco.getImgIds()[:number]):
        with Image.open(data / 'val2017' / info['file_name']) as image:
            pixels = np.asarray(image.convert('RGB'))
        truth = coco.loadAnns(coco.getAnnIds(info['id']))
        found = [p for p in predicted if p['image_id'] == info['id'] and p['score'] >= _SCORE]
        sides = [_draw(pixels, truth, 'truth'), _draw(pixels, found, 'prediction')]
        both = Image.new('RGB', (2 * sides[0].width + _GAP, sides[0].height), 'white')
        both.paste(sides[0], (0, 0))
        both.paste(sides[1], (sides[0].width + _GAP, 0))
        written.append(folder / f'{Path(info["file_name"]).stem}.png')
        both.save(written[-1])
    return written


def _draw(pixels: np.ndarray[Any, Any], objects: list[dict[str, Any]], title: str) -> Image.Image:
    """Draw masks, boxes and names on an enlarged image."""
    canvas = pixels.astype(np.float32)
    for thing in objects:
        mask = coco_mask.decode(thing['segmentation']).astype(bool)
        canvas[mask] = 0.45 * canvas[mask] + 0.55 * np.array(PALETTE[thing['category_id'] - 1])
    height, width = pixels.shape[:2]
    picture = Image.fromarray(canvas.astype(np.uint8))
    picture = picture.resize((_SCALE * width, _SCALE * height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(20)
    for thing in objects:
        label = thing['category_id'] - 1
        x, y, w, h = (_SCALE * side for side in thing['bbox'])
        draw.rectangle((x, y, x + w - 1, y + h - 1), outline=PALETTE[label], width=3)
        score = f' {thing["score"]:.2f}' if 'score' in thing else ''
        _tag(draw, (x, y), f'{label}{score}', PALETTE[label], font)
    _tag(draw, (0, 24), title, (255, 255, 255), font)
    return picture


def _tag(draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, colour: Any, font: Any) -> None:
    """Write text in a filled box above a point."""
    x, y = corner[0], max(24, corner[1])
    draw.rectangle((x, y - 24, x + draw.textlength(text, font) + 6, y), fill=colour)
    bright = sum(colour) > 380
    draw.text((x + 3, y - 24), text, fill='black' if bright else 'white', font=font)
