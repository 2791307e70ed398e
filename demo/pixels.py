"""Loads real pixels from installed packages, and defines which split may use which.

Three parties draw from them: ``source`` (the network that is frozen later) and the ``train`` and ``val`` splits of the
demo's data set. The source has photographs of its own and no handwritten digit. Train and val share no digit; they
share photographs and textures, but each keeps to its own side of a cut through every one of them.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import skimage
import sklearn.datasets
from numpy.typing import NDArray
from PIL import Image

Box = tuple[float, float, float, float]

# scikit-learn's digits are sorted by writer, so contiguous parts also separate most writers
DIGITS = {'train': range(1438), 'val': range(1438, 1797)}
PHOTOGRAPHS = {
    'target': ('china.jpg', 'flower.jpg', 'astronaut.png', 'coffee.png', 'chelsea.png', 'rocket.jpg'),
    'source': (
        'camera.png', 'cell.png', 'coins.png', 'hubble_deep_field.jpg', 'ihc.png', 'logo.png', 'moon.png',
        'motorcycle_left.png', 'page.png', 'retina.jpg', 'text.png',
    ),
}  # fmt: skip
TEXTURES = {'brick': 'brick.png', 'grass': 'grass.png', 'gravel': 'gravel.png'}
# position of the cut along the longer side of a photograph: train before it, val after it
CUT = 0.6
_FOLDERS = (
    Path(sklearn.datasets.__file__).parent / 'images',
    Path(skimage.__file__).parent / 'data',
)


@cache
def load_picture(name: str) -> Image.Image:
    """Read an image from the installed package that contains it. Nothing is downloaded.

    Raises:
        FileNotFoundError: the installed scikit-learn and scikit-image do not carry the file.
    """
    for folder in _FOLDERS:
        if (folder / name).is_file():
            with Image.open(folder / name) as picture:
                return picture.convert('RGB')
    raise FileNotFoundError(
        f'{name!r} is in none of {[str(folder) for folder in _FOLDERS]}: the installed scikit-learn or scikit-image '
        'does not carry it. Install the versions that requirements/ names.'
    )


@cache
def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read scikit-learn's handwritten digits: 1797 images of 8x8 in [0, 1], and their labels."""
    digits: Any = sklearn.datasets.load_digits()
    return (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)


def own_part(name: str, party: str) -> Box:
    """Return the part of an image that a split or the source task may use, as left, top, right, bottom."""
    width, height = load_picture(name).size
    if party == 'source':
        return 0, 0, width, height
    if width >= height:
        cut = round(CUT * width)
        return (0, 0, cut, height) if party == 'train' else (cut, 0, width, height)
    cut = round(CUT * height)
    return (0, 0, width, cut) if party == 'train' else (0, cut, width, height)


def random_crop(
    rng: np.random.Generator,
    name: str,
    party: str,
    size: tuple[int, ...],
    zoom: tuple[float, float] = (0.6, 1.0),
) -> tuple[NDArray[np.float32], Box]:
    """Cut a random crop from the part of an image that a party may use.

    Args:
        rng (np.random.Generator): The source of randomness.
        name (str): File name of the picture.
        party (str): ``source``, ``train`` or ``val``.
        size (tuple[int, ...]): Height and width of the result.
        zoom (tuple[float, float]): Range of the crop's size as a share of the largest that fits.

    Returns:
        tuple: (H, W, 3) in [0, 1], and the crop's box in the picture's own pixels.
    """
    left, top, right, bottom = own_part(name, party)
    height, width = size
    scale = min((right - left) / width, (bottom - top) / height) * rng.uniform(*zoom)
    x = rng.uniform(left, right - scale * width)
    y = rng.uniform(top, bottom - scale * height)
    box = (x, y, x + scale * width, y + scale * height)
    crop = load_picture(name).resize((width, height), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)
    pixels = np.asarray(crop, np.float32) / np.float32(255)
    return (pixels[:, ::-1] if rng.random() < 0.5 else pixels), box
