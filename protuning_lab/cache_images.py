"""``tools/dataset_converters/cache_images.py``: decode and resize the images of a classification config once."""

import argparse
import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from numpy.typing import NDArray

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_cfg_options, at_least
from protuning_mm.data import DataError
from protuning_mm.engine.config import read_config
from protuning_mm.weights.atomic import write_atomically

SPLITS = ('train', 'val', 'test')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Decode and resize the images of a classification config's data sets once, into .npy files that "
        'protuning_mm.ImageArrays reads'
    )
    parser.add_argument('config', help='path of the config; only its data sets are read, not their pipelines')
    parser.add_argument('out', type=Path, help='output folder')
    parser.add_argument('--size', type=at_least(1), required=True, help='height and width of the written images')
    parser.add_argument('--splits', nargs='+', choices=SPLITS, default=SPLITS, help='default: all three')
    add_cfg_options(parser)
    return parser.parse_args(argv)


def cache_images(cfg: Config, out: Path, size: int, splits: Sequence[str] = SPLITS) -> dict[str, int]:
    """Write ``<split>_images.npy``, ``<split>_labels.npy`` and ``classes.json``.

    Args:
        cfg (Config): A config of mmpretrain.
        out (Path): Output folder.
        size (int): Height and width; images of another shape are resized to it by bicubic interpolation.
        splits (Sequence[str]): Which of the three data loaders to read. Defaults to all.

    Returns:
        dict: Split -> number of images.

    Raises:
        DataError: the data sets have different classes.
    """
    init_default_scope('mmpretrain')
    counts, classes = {}, None
    for split in splits:
        dataset, is_bgr = _build(cfg[f'{split}_dataloader'].dataset, size)
        names = list(dataset.metainfo.get('classes') or ())
        if classes is not None and names != classes:
            raise DataError(f'the data set of the {split} data loader has other classes than those before it')
        classes = names
        images = [_to_rgb(dataset[i]['img'], is_bgr) for i in range(len(dataset))]
        write_array(np.stack(images), out / f'{split}_images.npy')
        write_array(np.asarray(dataset.get_gt_labels(), np.int64), out / f'{split}_labels.npy')
        counts[split] = len(images)
    write_atomically(json.dumps(classes).encode(), out / 'classes.json')
    return counts


def _build(dataset: Any, size: int) -> tuple[Any, bool]:
    """Build a data set with a pipeline that loads and resizes; wrappers such as LongTailed keep their choice.

    Returns:
        tuple: The data set, and whether its images are BGR. Files are loaded as BGR; CIFAR's arrays are RGB.
    """
    inner = dataset
    while 'dataset' in inner:
        inner = inner['dataset']
    loads = [step for step in inner.get('pipeline', []) if step['type'].endswith('LoadImageFromFile')]
    resize = dict(type='Resize', scale=(size, size), interpolation='bicubic')
    inner['pipeline'] = [*loads, resize]
    return DATASETS.build(dataset), bool(loads)


def _to_rgb(image: NDArray[np.uint8], is_bgr: bool) -> NDArray[np.uint8]:
    if image.ndim == 2:  # MNIST is gray
        return np.stack([image] * 3, -1)
    return np.ascontiguousarray(image[..., ::-1]) if is_bgr else image


def write_array(array: NDArray[Any], path: Path) -> None:
    """Write a ``.npy`` file atomically."""
    file = BytesIO()
    np.save(file, array)
    write_atomically(file.getvalue(), path)


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    for split, number in cache_images(cfg, args.out, args.size, args.splits).items():
        print(f'{split}: {number} images of {args.size}x{args.size}, written to {args.out}')


if __name__ == '__main__':
    main()
