"""Label maps against their images and the number of classes."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from protuning_mm.doctor.findings import first_line
from protuning_mm.doctor.images import in_parallel
from protuning_mm.doctor.problems import Kind, Problems

NO_MAP = Kind('error', 'label maps are not on the disk', 'put the files there, or mend data_prefix or the suffixes')
UNREADABLE_MAP = Kind('error', 'label maps cannot be loaded', 'mend the files')
MAP_SIZE = Kind('error', 'label maps have another size than their image', 'make them anew from the image')
MAP_CLASSES = Kind(
    'error',
    'label maps have labels that are neither classes nor the ignored one',
    'num_classes, classes and reduce_zero_label must fit the maps; write 255 where a pixel is of no class',
)
NO_LABEL = Kind('warning', 'label maps are empty: every pixel is ignored', 'mend the maps, or leave the images out')

Load = Callable[[int, Path], Any]  # index and path of a map -> (H, W)


def examine_maps(
    pairs: Sequence[tuple[Path, Path]],
    sizes: dict[Path, tuple[int, int]],
    num_classes: int | None,
    problems: Problems,
    load: Load | None = None,
    ignore_index: int = 255,
) -> None:
    """Note label maps that are not there, cannot be loaded, are of another size, or hold unknown labels.

    Args:
        pairs (Sequence): Image and label map.
        sizes (dict): Heights and widths of the images that could be read.
        num_classes (int, optional): Labels from 0 to one below are classes.
        problems (Problems): Where they are noted.
        load (Callable, optional): Loads a map as training will. Defaults to OpenCV, unchanged.
        ignore_index (int): The label that no loss counts. Defaults to 255.
    """
    work = partial(_look, load=load or _read, num_classes=num_classes, ignore_index=ignore_index)
    items = [(i, image, path) for i, (image, path) in enumerate(pairs)]
    for (_, image, path), (kind, said, size) in zip(items, in_parallel(work, items, f'{problems.key}: label maps')):
        if kind is not None:
            problems.note(kind, f'{path}{said}')
        if size is not None and size != sizes.get(image, size):
            h, w = sizes[image]
            problems.note(MAP_SIZE, f'{path} ({size[0]}x{size[1]}, image {h}x{w})')


def _look(
    item: tuple[int, Path, Path], load: Load, num_classes: int | None, ignore_index: int
) -> tuple[Kind | None, str, tuple[int, int] | None]:
    i, _, path = item
    if not path.is_file():
        return NO_MAP, '', None
    try:
        labels = load(i, path)
    except Exception as error:  # of whatever transform the config names
        return UNREADABLE_MAP, f' ({first_line(error)})', None
    if labels is None or labels.ndim != 2:
        shape = '' if labels is None else f' (shape {labels.shape}; one channel is expected)'
        return UNREADABLE_MAP, shape, None
    there = [int(label) for label in np.unique(labels) if label != ignore_index]
    unknown = [label for label in there if num_classes is not None and label >= num_classes]
    if unknown:
        shown = ', '.join(map(str, unknown[:5]))
        return MAP_CLASSES, f' (labels {shown}; {num_classes} classes)', labels.shape
    return (None if there else NO_LABEL), '', labels.shape


def _read(i: int, path: Path) -> Any:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
