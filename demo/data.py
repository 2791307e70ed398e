"""``tools/make_demo_data.py``: write digits on photographs in three data set formats."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo.formats import AdeWriter, ClassFoldersWriter, CocoWriter
from demo.scene import STUFF, THINGS, make_scene
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import at_least

PALETTE = (
    (230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48),
    (145, 30, 180), (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212),
    (170, 110, 40), (0, 128, 128), (128, 128, 128), (40, 40, 90),
)  # fmt: skip


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Write handwritten digits on photographs as COCO, ADE20K and class folders'
    )
    parser.add_argument('--out', default='data/demo', help='output folder')
    parser.add_argument('--seed', type=at_least(0), default=0, help='the same seed writes the same bytes')
    parser.add_argument('--images', type=int, default=200, help='number of training images')
    parser.add_argument('--val-images', type=int, default=40, help='number of validation images')
    parser.add_argument(
        '--size', type=int, nargs=2, default=(192, 256), metavar=('H', 'W'), help='height and width of the images'
    )
    return parser.parse_args(argv)


def make_data(
    out: str | Path,
    seed: int = 0,
    images: int = 200,
    val_images: int = 40,
    size: tuple[int, int] = (192, 256),
) -> dict[str, Any]:
    """Write ``out/coco``, ``out/ade``, ``out/cls`` and ``out/meta.json``.

    Args:
        out (str | Path): Output folder.
        seed (int): The same arguments write the same bytes. Defaults to 0.
        images (int): Number of training images. Defaults to 200.
        val_images (int): Number of validation images. Defaults to 40.
        size (tuple[int, int]): Height and width of an image. Defaults to (192, 256).

    Returns:
        dict: The content of ``meta.json``: classes, palette, seed and counts.

    Raises:
        ValueError: a number of images is below 1, or images are too small for digits.
        FileExistsError: ``out`` already contains a data set.
    """
    if min(images, val_images) < 1:
        raise ValueError(f'images={images}, val_images={val_images}: each split needs at least one image')
    if min(size) < 64:
        raise ValueError(f'size={tuple(size)}: an image needs at least 64 pixels per side')
    out = Path(out)
    if (out / 'meta.json').exists():
        raise FileExistsError(f'{str(out)!r} already contains a demo data set; remove it first')
    counts = {}
    for split, number in {'train': images, 'val': val_images}.items():
        writers = (
            CocoWriter(out / 'coco', split),
            AdeWriter(out / 'ade', split),
            ClassFoldersWriter(out / 'cls', split),
        )
        digits = 0
        for index in range(number):
            scene = make_scene(seed, split, index, (size[0], size[1]))
            digits += len(scene.instances)
            for writer in writers:
                writer.add(index, scene)
        for writer in writers:
            writer.close()
        counts[split] = {'images': number, 'digits': digits}
    meta = {'things': THINGS, 'stuff': STUFF, 'palette': PALETTE, 'seed': seed, 'size': list(size), 'counts': counts}
    # written last, so that it marks a complete data set
    (out / 'meta.json').write_text(json.dumps(meta, indent=2) + '\n')
    return meta


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    start = time.perf_counter()
    try:
        meta = make_data(args.out, args.seed, args.images, args.val_images, tuple(args.size))
    except (ValueError, FileExistsError, FileNotFoundError) as error:
        raise SystemExit(f'error: {error}') from None
    counted = ', '.join(
        f'{split}: {n["images"]} pictures with {n["digits"]} digits' for split, n in meta['counts'].items()
    )
    print(f'{args.out}: coco, ade, cls ({counted}) in {time.perf_counter() - start:.1f} s')
