"""An image that cannot be decoded, or not as it was annotated, is named, wherever in the data set it is."""

from functools import wraps
from pathlib import Path
from typing import Any

from mmcv.transforms import LoadImageFromFile
from PIL import Image

from protuning_mm.data.errors import DataError
from protuning_mm.data.whole_file import is_cut_short

ORIENTATION = 0x0112  # EXIF's tag
TURNING = (5, 6, 7, 8)  # its values that swap height and width


def patch_image_loading() -> None:
    """Make mmcv's ``LoadImageFromFile`` say which file it failed on, and fail on files that are cut short.

    On an empty file OpenCV raises its own error, in which no file is named. The class is mended in place, and not
    replaced in the pipelines, because the hosts' inferencers look for it by name in the config that a run leaves.
    """
    load = LoadImageFromFile.transform
    if hasattr(load, '__wrapped__'):
        return

    @wraps(load)
    def transform(self: LoadImageFromFile, results: dict[str, Any]) -> dict[str, Any] | None:
        try:
            loaded = load(self, results)
        except Exception as error:
            raise DataError(_reason(results.get('img_path'), error)) from error
        if loaded is not None:
            _check(loaded)
        return loaded

    LoadImageFromFile.transform = transform


def _check(results: dict[str, Any]) -> None:
    path = results.get('img_path')
    if isinstance(path, str) and Path(path).is_file() and is_cut_short(path):
        raise DataError(
            f'{path!r} ({Path(path).stat().st_size} bytes) is cut short: the file lacks its end, and part of the '
            'picture would be grey. Copy or download it again, or take it out of the annotations.'
        )
    annotated, found = (results.get('height'), results.get('width')), tuple(results['img'].shape[:2])
    if annotated == found[::-1] and annotated != found:
        raise DataError(
            f'{path!r} is {found[1]}x{found[0]} (width x height) as it is read, and {annotated[1]}x{annotated[0]} in '
            f'the annotations: {why_turned(path, found)}'
        )


def why_turned(path: Any, found: tuple[int, ...]) -> str:
    """Say why an image's height is its width in the annotations, and what to do.

    Args:
        path (str): The image's.
        found (tuple[int, int]): Its height and width as they are read.
    """
    try:
        with Image.open(path) as image:
            lies, turns = image.size[::-1], image.getexif().get(ORIENTATION) in TURNING
    except Exception:  # whatever Pillow's decoders raise; the image is on another machine, or only OpenCV reads it
        lies, turns = found, False
    if not turns:
        return (
            'it has no EXIF orientation that turns it, so height and width are swapped there. Swap them, and look '
            'whether the boxes and masks fit the image.'
        )
    if found == lies:
        return (
            "its EXIF orientation is ignored (color_type='color_ignore_orientation'), and they were made with it. Take "
            'that color_type out of LoadImageFromFile.'
        )
    return (
        'it is turned by its EXIF orientation, which OpenCV applies, and they were made without. Save the image '
        "without that tag, or set color_type='color_ignore_orientation' in LoadImageFromFile."
    )


def _reason(path: Any, error: Exception) -> str:
    if isinstance(path, str) and not Path(path).exists() and '://' not in path:
        return f'the data set names {path!r}, but there is no such file'
    size = f'{Path(path).stat().st_size} bytes' if Path(str(path)).is_file() else 'size unknown'
    first = (str(error).splitlines() or [''])[0]
    return (
        f'{path!r} ({size}) cannot be decoded as an image: {type(error).__name__} {first} '
        'Mend the file, or take it out of the annotations.'
    )
