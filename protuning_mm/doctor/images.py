"""Decodes the images of a data set in parallel, to find missing and damaged files and wrong sizes."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
from PIL import Image
from rich.console import Console
from rich.progress import track

from protuning_mm.data.image_loading import ORIENTATION, TURNING, explain_swapped_size
from protuning_mm.doctor.fault_counts import FaultCounts, FaultKind

MISSING = FaultKind(
    'error',
    'images in the annotations have no file',
    'add the files, correct data_prefix, or remove the images from the annotations',
)
UNREADABLE = FaultKind(
    'error', 'images cannot be decoded', 'replace the files, or remove the images from the annotations'
)
OTHER_SIZE = FaultKind(
    'error',
    'images have another size in the file than in the annotations',
    "set height and width in the annotations to the file's",
)
TRUNCATED = FaultKind('warning', 'images are cut off: the missing part is grey', 'copy the files again')

T = TypeVar('T')
R = TypeVar('R')
AnnotatedImage = tuple[Path, dict[str, Any]]
Sizes = dict[Path, tuple[int, int]]


def inspect_image(path: Path) -> tuple[FaultKind | None, tuple[int, int] | None]:
    """Decode an image.

    Returns:
        tuple: Its fault, or None, and its height and width as OpenCV loads it, which applies EXIF's orientation. The
        size is None if it is not known.
    """
    if not path.is_file():
        return MISSING, None
    size = None
    try:
        with Image.open(path) as image:
            w, h = image.size
            size = (w, h) if image.getexif().get(ORIENTATION) in TURNING else (h, w)
            image.load()
    except Exception as error:  # Pillow's decoders raise errors of many classes
        if size is not None and isinstance(error, OSError) and 'truncated' in str(error) and _opencv_reads(path):
            return TRUNCATED, size
        if size is None and _opencv_reads(path):  # a format that only OpenCV supports
            return None, None
        return UNREADABLE, None
    return None, size


def _opencv_reads(path: Path) -> bool:
    try:
        return cv2.imread(str(path)) is not None
    except cv2.error:
        return False


def map_in_parallel(work: Callable[[T], R], items: Sequence[T], title: str) -> Iterator[R]:
    """Apply a function to all items, in order, on all cores, with a progress bar on standard error."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from track(pool.map(work, items), title, len(items), console=Console(stderr=True), transient=True)


def pick_evenly(items: Sequence[T], limit: int | None) -> list[T]:
    """Return ``limit`` evenly spread items, or all if there are not more or ``limit`` is None."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def check_images(images: Sequence[AnnotatedImage], chosen: Sequence[AnnotatedImage], faults: FaultCounts) -> Sizes:
    """Decode images, compare their sizes with the annotated ones, and check that the other images exist.

    Args:
        images (Sequence): Paths and annotations of all images.
        chosen (Sequence): Those of the images to decode.
        faults (FaultCounts): Faults are added here.

    Returns:
        dict: Path -> height and width of those decoded images that have a known size.
    """
    sizes: Sizes = {}
    paths = [path for path, _ in chosen]
    for (path, annotated), (kind, size) in zip(chosen, map_in_parallel(inspect_image, paths, f'{faults.key}: images')):
        if kind is not None:
            faults.add(kind, str(path))
        if size is not None:
            sizes[path] = size
            _check_size(path, size, annotated, faults)
    decoded = set(paths)
    for path, _ in images:
        if path not in decoded and not path.is_file():
            faults.add(MISSING, str(path))
    return sizes


def _check_size(path: Path, size: tuple[int, int], annotated: dict[str, Any], faults: FaultCounts) -> None:
    height, width = annotated.get('height'), annotated.get('width')
    if height is None or width is None or size == (height, width):  # only data sets for detection have them
        return
    found = f'{size[0]}x{size[1]} in the file, {height}x{width} annotated'
    if size == (width, height):
        found += f': {explain_swapped_size(path, size)}'
    faults.add(OTHER_SIZE, f'{path} ({found})')
