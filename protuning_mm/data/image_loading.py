"""Loading images with errors that name the file: unreadable, truncated, or of another size than annotated.

:func:`protuning_mm.patches.patch_image_loading` installs :func:`name_unreadable_images`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from protuning_mm.data.errors import DataError, first_line
from protuning_mm.data.truncated_images import is_truncated

ORIENTATION = 0x0112  # the EXIF tag
TURNING = (5, 6, 7, 8)  # values of the EXIF tag that swap height and width


def name_unreadable_images(
    load: Callable[..., dict[str, Any] | None], transform: Any, results: dict[str, Any]
) -> dict[str, Any] | None:
    """Call ``LoadImageFromFile.transform``; raise a DataError that names the file.

    Also fail on truncated files, and on images whose height and width are swapped in the
    annotations.
    """
    try:
        loaded = load(transform, results)
    except Exception as error:
        raise DataError(_explain_failure(results.get('img_path'), error)) from error
    if loaded is not None:
        _check_image(loaded)
    return loaded


def _check_image(results: dict[str, Any]) -> None:
    path = results.get('img_path')
    if isinstance(path, str) and Path(path).is_file() and is_truncated(path):
        raise DataError(
            f'{path!r} ({Path(path).stat().st_size} bytes) is truncated: the end of the file is missing, and part of '
            'the picture would be grey. Copy or download it again, or remove it from the annotations.'
        )
    annotated, found = (results.get('height'), results.get('width')), tuple(results['img'].shape[:2])
    if annotated == found[::-1] and annotated != found:
        raise DataError(
            f'{path!r} is loaded as {found[1]}x{found[0]} (width x height), but the annotations say '
            f'{annotated[1]}x{annotated[0]}: {explain_swapped_size(path, found)}'
        )


def explain_swapped_size(path: Any, size: tuple[int, ...]) -> str:
    """Explain why height and width of an image are swapped in the annotations, and what to do.

    Args:
        path (str): The image file.
        size (tuple[int, int]): Height and width of the loaded image.
    """
    try:
        with Image.open(path) as image:
            stored, turns = image.size[::-1], image.getexif().get(ORIENTATION) in TURNING
    except Exception:  # whatever Pillow's decoders raise: the image is on another machine, or only OpenCV reads it
        stored, turns = size, False
    if not turns:
        return (
            'the image has no EXIF orientation that turns it, so height and width are swapped in the annotations. '
            'Swap them, and check whether boxes and masks fit the image.'
        )
    if size == stored:
        return (
            "its EXIF orientation is ignored (color_type='color_ignore_orientation'), but the annotations were made "
            'with it. Remove that color_type from LoadImageFromFile.'
        )
    return (
        'OpenCV turns the image by its EXIF orientation, but the annotations were made without it. Save the image '
        "without that tag, or set color_type='color_ignore_orientation' in LoadImageFromFile."
    )


def _explain_failure(path: Any, error: Exception) -> str:
    if isinstance(path, str) and not Path(path).exists() and '://' not in path:
        return f'the data set names {path!r}, but there is no such file'
    size = f'{Path(path).stat().st_size} bytes' if Path(str(path)).is_file() else 'unknown size'
    return (
        f'{path!r} ({size}) cannot be decoded as an image: {type(error).__name__} {first_line(error)} '
        'Repair the file, or remove it from the annotations.'
    )
