"""Decoding the images of a data set, several at once."""

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
from protuning_mm.doctor.problems import Kind, Problems

ABSENT = Kind(
    'error',
    'images that the annotations name are not on the disk',
    'put the files there, mend data_prefix, or take them out of the annotations',
)
UNREADABLE = Kind('error', 'images cannot be decoded', 'mend the files, or take them out of the annotations')
OTHER_SIZE = Kind(
    'error', 'images have another size on disk than height and width in the annotations', 'write the size of the file'
)
TRUNCATED = Kind('warning', 'images are cut off: what lacks is grey', 'copy the files again')

T = TypeVar('T')
R = TypeVar('R')


def look_at(path: Path) -> tuple[Kind | None, tuple[int, int] | None]:
    """Decode one image.

    Returns:
        tuple: What is wrong with it, and its height and width as OpenCV, which heeds EXIF's orientation, will load it.
    """
    if not path.is_file():
        return ABSENT, None
    size = None
    try:
        with Image.open(path) as image:
            w, h = image.size
            size = (w, h) if image.getexif().get(ORIENTATION) in TURNING else (h, w)
            image.load()
    except Exception as error:  # Pillow raises whatever its decoders do
        if size is not None and isinstance(error, OSError) and 'truncated' in str(error) and _opencv_reads(path):
            return TRUNCATED, size
        if size is None and _opencv_reads(path):  # a format that only OpenCV knows
            return None, None
        return UNREADABLE, None
    return None, size


def _opencv_reads(path: Path) -> bool:
    try:
        return cv2.imread(str(path)) is not None
    except cv2.error:
        return False


def in_parallel(work: Callable[[T], R], items: Sequence[T], title: str) -> Iterator[R]:
    """Do the same with all items, in order, on all cores, with a bar on standard error."""
    bar: dict[str, Any] = dict(console=Console(stderr=True), total=len(items), transient=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from track(pool.map(work, items), title, **bar)


def some(items: Sequence[T], limit: int | None) -> list[T]:
    """All items, or ``limit`` of them evenly spread."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def examine_images(paths: Sequence[Path], problems: Problems) -> dict[Path, tuple[int, int]]:
    """Decode images, note what is wrong, and return the sizes of the others."""
    sizes = {}
    for path, (kind, size) in zip(paths, in_parallel(look_at, paths, f'{problems.key}: images')):
        if kind is not None:
            problems.note(kind, str(path))
        if size is not None:
            sizes[path] = size
    return sizes


def compare_size(path: Path, size: tuple[int, int], listed: dict[str, Any], problems: Problems) -> None:
    """Note an image whose size is not the one that its annotations have.

    Args:
        path (Path): The image.
        size (tuple[int, int]): Its height and width.
        listed (dict): With ``height`` and ``width``.
        problems (Problems): Where it is noted.
    """
    height, width = listed['height'], listed['width']
    if size == (height, width):
        return
    found = f'{size[0]}x{size[1]} on disk, {height}x{width} listed'
    if size == (width, height):
        found += f': {explain_swapped_size(path, size)}'
    problems.note(OTHER_SIZE, f'{path} ({found})')
