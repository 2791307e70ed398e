"""An image on which OpenCV fails within a transform is named; most are too thin for the size that is asked for."""

from functools import wraps
from typing import Any

import cv2
import mmcv
from mmcv.transforms import BaseTransform

from protuning_mm.data.errors import DataError


def patch_transforms() -> None:
    """Make transforms say which file OpenCV failed on, and what it is about it.

    ``Resize(keep_ratio=True)`` makes 3 of a photo's 20,000 x 3 pixels to 1333 x 0: OpenCV's error has neither the
    file nor the size. The base class is mended in place, so that it holds for the transforms of all three hosts, and
    for those within others.
    """
    call = BaseTransform.__call__
    if hasattr(call, '__wrapped__'):
        return

    @wraps(call)
    def named(self: BaseTransform, results: dict[str, Any]) -> Any:
        try:
            return call(self, results)
        except cv2.error as error:
            if not isinstance(results, dict) or not hasattr(results.get('img'), 'shape'):
                raise
            raise DataError(_reason(self, results, error)) from error

    BaseTransform.__call__ = named


def _reason(transform: BaseTransform, results: dict[str, Any], error: Exception) -> str:
    h, w = results['img'].shape[:2]
    where = f'{results.get("img_path", "an image")!r}, {w}x{h} pixels (width x height)'
    kind, scale = type(transform).__name__, results.get('scale')
    if getattr(transform, 'keep_ratio', False) and isinstance(scale, tuple) and min(h, w) > 0:
        to = mmcv.rescale_size((w, h), scale)
        if min(to) == 0:
            return (
                f'{where}, is too thin for {kind}: with keep_ratio=True and scale={scale} it would become '
                f'{to[0]}x{to[1]}. Cut it into parts, crop or pad it (no more than {2 * max(scale)} times as long as '
                'it is wide), or take it out of the annotations.'
            )
    first = (str(error).splitlines() or [''])[0]
    return f'{where}: {kind} failed in OpenCV: {first} Mend the image, or take it out of the annotations.'
