"""Errors of transforms that name the image file; most come from images that are too thin for the requested size.

:func:`protuning_mm.patches.patch_transforms` installs :func:`name_failing_images`.
"""

from collections.abc import Callable
from typing import Any

import cv2
import mmcv

from protuning_mm.data.errors import DataError, first_line


def name_failing_images(call: Callable[..., Any], transform: Any, results: dict[str, Any]) -> Any:
    """Call ``BaseTransform.__call__``; turn an error of OpenCV into a DataError that names the file and its size.

    ``Resize(keep_ratio=True)`` computes a size of 1333 x 0 for an image of 20,000 x 3 pixels. OpenCV's error names
    neither the file nor the size.
    """
    try:
        return call(transform, results)
    except cv2.error as error:
        if not isinstance(results, dict) or not hasattr(results.get('img'), 'shape'):
            raise
        raise DataError(_explain_failure(transform, results, error)) from error


def _explain_failure(transform: Any, results: dict[str, Any], error: Exception) -> str:
    h, w = results['img'].shape[:2]
    where = f'{results.get("img_path", "an image")!r}, {w}x{h} pixels (width x height)'
    kind, scale = type(transform).__name__, results.get('scale')
    if getattr(transform, 'keep_ratio', False) and isinstance(scale, tuple) and min(h, w) > 0:
        size = mmcv.rescale_size((w, h), scale)
        if min(size) == 0:
            return (
                f'{where}, is too thin for {kind}: with keep_ratio=True and scale={scale} it would become '
                f'{size[0]}x{size[1]}. Split, crop or pad it (its length may be at most {2 * max(scale)} times its '
                'width), or remove it from the annotations.'
            )
    return f'{where}: {kind} failed in OpenCV: {first_line(error)} Repair the image, or remove it from the annotations.'
