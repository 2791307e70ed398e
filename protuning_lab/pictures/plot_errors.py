"""``tools/analysis_tools/plot_errors.py``: the confusion matrix of a test, and its worst images."""

import argparse
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope

from protuning_lab.pictures.figures import PictureError, new_figure, save_figure
from protuning_lab.pictures.predictions import read_labels
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_cfg_options, at_least
from protuning_mm.engine.config import read_config
from protuning_mm.weights.atomic import write_atomically

Array = np.ndarray[Any, Any]
_IGNORED = 255
_SHOWN = 40  # classes; the numbers of more cannot be read in a figure


@dataclass(frozen=True)
class ImageErrors:
    """The errors of an image.

    Args:
        path (str): The image.
        score (float): Segmentation: its mean intersection over union. Classification: 1 if it is right, else 0.
        confusion (ndarray, optional): (C, C), counts of true (rows) and predicted classes; None for one class.
        truth (ndarray | int): Its label map, or its class.
        predicted (ndarray | int): The same of the prediction.
    """

    path: str
    score: float
    confusion: Array | None
    truth: Any
    predicted: Any


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write the confusion matrix of a test, and the images with the most errors',
        epilog="For detectors, mmdet's own confusion_matrix.py and analyze_results.py do this (docs/pictures.md).",
    )
    parser.add_argument('config', help='the config of the test')
    parser.add_argument(
        'predictions', help='what tools/test.py CONFIG CHECKPOINT --out wrote: a folder of label maps, or a .pkl file'
    )
    parser.add_argument('--out', required=True, help='folder to write')
    parser.add_argument('--worst', type=at_least(0), default=8, metavar='N', help='number of images; defaults to 8')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def count_confusions(truth: Array, predicted: Array, classes: int) -> Array:
    """Count pairs of true and predicted classes, (C, C).

    Raises:
        PictureError: a label is none of the classes.
    """
    truth, predicted = truth.astype(np.int64).ravel(), predicted.astype(np.int64).ravel()
    highest = max(int(labels.max(initial=0)) for labels in (truth, predicted))
    if highest >= classes:
        raise PictureError(f'a label map has the label {highest}, but the data set has {classes} classes')
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def mean_iou(confusion: Array) -> float:
    """Return the mean intersection over union of the classes that are there or predicted, from 0 to 1."""
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    return float((np.diag(confusion)[union > 0] / union[union > 0]).mean()) if union.any() else 1.0


def _build_dataset(cfg: Config) -> Any:
    from mmengine.registry import DATASETS

    init_default_scope(cfg.default_scope)
    return DATASETS.build(cfg.test_dataloader.dataset)


def _segmentation_errors(dataset: Any, folder: Path, classes: int) -> Iterator[ImageErrors]:
    steps = dataset.pipeline.transforms
    loads = next((step for step in steps if type(step).__name__ == 'LoadAnnotations'), None)
    if loads is None:
        raise PictureError('the test pipeline of the config has no LoadAnnotations: the truth is not known')
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        truth = loads(info | dict(seg_fields=[]))['gt_seg_map']
        path = folder / f'{Path(info["img_path"]).stem}.png'
        predicted = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if predicted is None:
            raise PictureError(f'{path} is missing or no image: give the folder that tools/test.py --out wrote')
        if info.get('reduce_zero_label'):
            predicted = predicted - 1
        if predicted.shape != truth.shape:
            raise PictureError(f'{path} has the shape {predicted.shape}, but the label map {truth.shape}')
        known = truth != _IGNORED
        confusion = count_confusions(truth[known], predicted[known], classes)
        yield ImageErrors(info['img_path'], mean_iou(confusion), confusion, truth, predicted)


def _classification_errors(dataset: Any, file: Path, classes: int) -> Iterator[ImageErrors]:
    truth, predicted = read_labels(file)
    if len(truth) != len(dataset):
        raise PictureError(f'{file} has {len(truth)} predictions, but the test set of the config {len(dataset)} images')
    for i, (label, found) in enumerate(zip(truth, predicted)):
        path = dataset.get_data_info(i).get('img_path', f'image {i}')
        yield ImageErrors(path, float(label == found), None, int(label), int(found))


def draw_confusion(confusion: Array, classes: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix, each row as shares of its class."""
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = 2 + 0.35 * min(len(classes), _SHOWN)
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap='Blues', vmin=0, vmax=1)
    if len(classes) <= _SHOWN:
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        for i, row in enumerate(shares):
            for j, share in enumerate(row):
                if share >= 0.005:
                    axes.text(
                        j, i, f'{100 * share:.0f}', ha='center', va='center', color='white' if share > 0.5 else 'black'
                    )
    axes.set_xlabel('predicted')
    axes.set_ylabel('true')
    axes.set_title('per cent of each true class')
    save_figure(figure, path)


def draw_worst(errors: Sequence[ImageErrors], classes: Sequence[str], palette: Any, path: Path) -> None:
    """Draw images beside their true and predicted classes."""
    maps = isinstance(errors[0].truth, np.ndarray)
    columns = 3 if maps else 4
    rows = len(errors) if maps else -(-len(errors) // columns)
    figure = new_figure(3.2 * columns, 2.6 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis('off')
    for i, each in enumerate(errors):
        image = cv2.imread(each.path)
        shown = np.full((8, 8, 3), 200, np.uint8) if image is None else image[..., ::-1]
        name = Path(each.path).name
        if not maps:
            axes = grid.flat[i]
            axes.imshow(shown)
            axes.set_title(f'{name}\n{classes[each.truth]}, not {classes[each.predicted]}', fontsize=8)
            continue
        for axes, picture, title in zip(
            grid[i],
            (shown, _coloured(each.truth, palette), _coloured(each.predicted, palette)),
            (name, 'truth', f'predicted, mIoU {100 * each.score:.1f}'),
        ):
            axes.imshow(picture)
            axes.set_title(title, fontsize=8)
    save_figure(figure, path)


def _coloured(labels: Array, palette: Any) -> Array:
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(palette)] = palette
    found: Array = colours[labels.astype(np.uint8)]
    return found


def _table(confusion: Array, classes: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['true \\ predicted', *classes])
    writer.writerows([name, *map(int, row)] for name, row in zip(classes, confusion))
    return text.getvalue()


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cfg, predictions, out = read_config(args.config, args.cfg_options), Path(args.predictions), Path(args.out)
    readers = {'mmseg': _segmentation_errors, 'mmpretrain': _classification_errors}
    if cfg.get('default_scope') not in readers:
        raise PictureError(
            f"{args.config} is of {cfg.get('default_scope')}. For detectors, mmdet's own tools do this: see "
            'docs/pictures.md'
        )
    dataset = _build_dataset(cfg)
    classes = [str(name) for name in dataset.metainfo.get('classes') or ()]
    if not classes:
        raise PictureError('the test set of the config has no names of classes: set metainfo=dict(classes=…) in it')
    confusion, worst = np.zeros((len(classes),) * 2, np.int64), list[ImageErrors]()
    for each in readers[cfg.default_scope](dataset, predictions, len(classes)):
        if each.confusion is None:
            confusion += count_confusions(np.array([each.truth]), np.array([each.predicted]), len(classes))
        else:
            confusion += each.confusion
        if each.score < 1:
            worst = sorted([*worst, each], key=lambda each: each.score)[: args.worst]
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(_table(confusion, classes).encode(), out / 'confusion_matrix.csv')
    draw_confusion(confusion, classes, out / 'confusion_matrix.png')
    if worst:
        palette = dataset.metainfo.get('palette') or np.random.default_rng(0).integers(0, 255, (len(classes), 3))
        draw_worst(worst, classes, palette, out / 'worst.png')
    for each in worst:
        print(f'{100 * each.score:6.2f}  {each.path}')
    print(
        f'{len(dataset)} images; confusion_matrix.csv, confusion_matrix.png{" and worst.png" if worst else ""} in {out}'
    )


if __name__ == '__main__':
    main()
