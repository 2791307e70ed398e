"""Checks label maps against their images and the number of classes."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from protuning_mm.doctor.fault_counts import FaultCounts, FaultKind
from protuning_mm.doctor.findings import describe_error
from protuning_mm.doctor.images import map_in_parallel

MISSING_MAP = FaultKind('error', 'label maps have no file', 'add the files, or correct data_prefix or the suffixes')
UNREADABLE_MAP = FaultKind('error', 'label maps cannot be loaded', 'replace the files')
OTHER_MAP_SIZE = FaultKind('error', 'label maps have another size than their image', 'create them again from the image')
UNKNOWN_LABELS = FaultKind(
    'error',
    'label maps have labels that are neither a class nor the ignored label',
    'num_classes, classes and reduce_zero_label must fit the maps; write 255 where a pixel has no class',
)
NO_LABELS = FaultKind(
    'warning', 'label maps are empty: every pixel is ignored', 'correct the maps, or remove the images'
)

Load = Callable[[int, Path], Any]  # index and path of a map -> (H, W)


def check_label_maps(
    pairs: Sequence[tuple[Path, Path]],
    sizes: dict[Path, tuple[int, int]],
    num_classes: int | None,
    faults: FaultCounts,
    load: Load | None = None,
    ignore_index: int = 255,
) -> None:
    """Find label maps that are missing, cannot be loaded, have another size than their image, or hold unknown labels.

    Args:
        pairs (Sequence): Paths of image and label map.
        sizes (dict): Height and width of the images that could be read.
        num_classes (int, optional): Number of classes; None if it is not known.
        faults (FaultCounts): Faults are added here.
        load (Callable, optional): Loads a label map as training does. Defaults to OpenCV, without conversion.
        ignore_index (int): The label that losses ignore. Defaults to 255.
    """
    work = partial(_inspect_map, load=load or _read, num_classes=num_classes, ignore_index=ignore_index)
    items = [(i, image, path) for i, (image, path) in enumerate(pairs)]
    results = map_in_parallel(work, items, f'{faults.key}: label maps')
    for (_, image, path), (kind, details, size) in zip(items, results):
        if kind is not None:
            faults.add(kind, f'{path}{details}')
        if size is not None and size != sizes.get(image, size):
            h, w = sizes[image]
            faults.add(OTHER_MAP_SIZE, f'{path} ({size[0]}x{size[1]}, image {h}x{w})')


def _inspect_map(
    item: tuple[int, Path, Path], load: Load, num_classes: int | None, ignore_index: int
) -> tuple[FaultKind | None, str, tuple[int, int] | None]:
    i, _, path = item
    if not path.is_file():
        return MISSING_MAP, '', None
    try:
        labels = load(i, path)
    except Exception as error:  # the transform can be any class
        return UNREADABLE_MAP, f' ({describe_error(error)})', None
    if labels is None or labels.ndim != 2:
        shape = '' if labels is None else f' (shape {labels.shape}; one channel is expected)'
        return UNREADABLE_MAP, shape, None
    found = [int(label) for label in np.unique(labels) if label != ignore_index]
    unknown = [label for label in found if num_classes is not None and label >= num_classes]
    if unknown:
        shown = ', '.join(map(str, unknown[:5]))
        return UNKNOWN_LABELS, f' (labels {shown}; {num_classes} classes)', labels.shape
    return (None if found else NO_LABELS), '', labels.shape


def _read(i: int, path: Path) -> Any:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
