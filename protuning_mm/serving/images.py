"""Images of a request: their size is read from the header and checked before an image is decoded."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from protuning_mm.data.truncated_images import lacks_its_end
from protuning_mm.serving.errors import RequestError
from protuning_mm.serving.limits import Limits

FORMATS = ('JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF')


def check_images(images: Sequence[bytes], limits: Limits) -> None:
    """Check the number and the pixels of a request's images without decoding them.

    Raises:
        RequestError: there is no image (422), something is not an image (415), or there are too many images or pixels
            (413).
    """
    if not images:
        raise RequestError(422, 'the request has no image')
    if len(images) > limits.max_images:
        raise RequestError(413, f'{len(images)} images; a request may have {limits.max_images}')
    pixels = 0
    for i, data in enumerate(images):
        width, height = _read_size(data, i, limits)
        pixels += width * height
        if pixels > limits.max_pixels:
            whole = '' if len(images) == 1 else f', and the images before it {pixels - width * height:,}'
            raise RequestError(
                413,
                f'image {i} has {width} x {height} = {width * height:,} pixels{whole}; the images of a request may '
                f'have {limits.max_pixels:,} in all',
            )


def decode_image(data: bytes, i: int) -> np.ndarray[Any, Any]:
    """Decode an image that :func:`check_images` has passed, as ``mmcv.imread`` does: (H, W, 3), BGR, upright.

    Args:
        data (bytes): The file.
        i (int): Its position in the request, for the error.

    Raises:
        RequestError: the image cannot be decoded, or its end is missing (415).
    """
    if lacks_its_end(data):
        raise RequestError(415, f'image {i} ({len(data)} bytes) is truncated: the end of the file is missing')
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise RequestError(415, f'image {i} ({len(data)} bytes) cannot be decoded: the file is damaged')
    return image


def _read_size(data: bytes, i: int, limits: Limits) -> tuple[int, int]:
    """Return width and height from the header of a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Pillow warns about large images, which have a limit of their own here
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
    except Image.DecompressionBombError:
        raise RequestError(
            413, f'image {i} has too many pixels; the images of a request may have {limits.max_pixels:,} in all'
        ) from None
    except Exception:  # Pillow's readers raise errors of many classes
        raise RequestError(
            415, f'image {i} ({len(data)} bytes) is not an image of a known format: {", ".join(FORMATS)}'
        ) from None
