"""Defines which pixels each world and split may use: two worlds share none, and neither do the three splits.

The *digits* world has scikit-learn's handwritten digits and six photographs to draw them on; the *textures* world has
other photographs and textures. A source network is trained on all of one world and tuned to targets of the other.
Within a target, train, val and test each use their own digits and their own part of every photograph.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.pixels import load_picture

Box = tuple[float, float, float, float]
Pixels = NDArray[np.float32]

SPLITS = ('train', 'val', 'test')
# scikit-learn's digits are sorted by writer, so contiguous parts also separate most writers
DIGITS = {'train': range(1100), 'val': range(1100, 1350), 'test': range(1350, 1797)}
PHOTOGRAPHS = ('china.jpg', 'flower.jpg', 'astronaut.png', 'coffee.png', 'chelsea.png', 'rocket.jpg')
TEXTURES = {
    'brick': 'brick.png', 'cell': 'cell.png', 'coins': 'coins.png', 'grass': 'grass.png', 'gravel': 'gravel.png',
    'hubble': 'hubble_deep_field.jpg', 'ihc': 'ihc.png', 'moon': 'moon.png', 'motorcycle': 'motorcycle_left.png',
    'page': 'page.png', 'retina': 'retina.jpg', 'text': 'text.png',
}  # fmt: skip
# start and end of each split's part along the longer side of a photograph; a source network uses the whole
PARTS = {'train': (0.0, 0.5), 'val': (0.5, 0.7), 'test': (0.7, 1.0), 'source': (0.0, 1.0)}


def own_part(name: str, party: str) -> tuple[int, int, int, int]:
    """Return the part of an image that a party may use, as left, top, right, bottom."""
    width, height = load_picture(name).size
    begin, end = PARTS[party]
    if width >= height:
        return round(begin * width), 0, round(end * width), height
    return 0, round(begin * height), width, round(end * height)


@cache
def _part(name: str, party: str) -> Image.Image:
    # crop before resizing, because a filter would reach a few pixels beyond the edge
    return load_picture(name).crop(own_part(name, party))


def random_crop(
    rng: np.random.Generator, name: str, party: str, sides: tuple[float, float], size: int
) -> tuple[Pixels, Box]:
    """Cut a random square from a party's part of an image.

    Args:
        rng (np.random.Generator): The source of randomness.
        name (str): File name of the image.
        party (str): A split, or ``source``.
        sides (tuple[float, float]): Range of the square's side in pixels of the image; limited to what fits.
        size (int): Height and width of the result.

    Returns:
        tuple: The crop, (size, size, 3) in [0, 1], and the square's box in pixels of the image.
    """
    part = _part(name, party)
    left, top, _, _ = own_part(name, party)
    side = min(rng.uniform(*sides), *part.size)
    x, y = (rng.uniform(0, length - side) for length in part.size)
    crop = part.resize((size, size), Image.Resampling.BICUBIC, box=(x, y, x + side, y + side), reducing_gap=2.0)
    pixels = np.asarray(crop, np.float32) / np.float32(255)
    return pixels, (left + x, top + y, left + x + side, top + y + side)
