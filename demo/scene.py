"""Composes one image of the demo's data set, with its ground truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from demo.digits import Glyph, make_glyph, paste_glyph, visible_window
from demo.pixels import DIGITS, PHOTOGRAPHS, TEXTURES, Box, load_digits, random_crop

THINGS = tuple(str(digit) for digit in range(10))
STUFF = (*TEXTURES, 'photograph')
# pixels at edges, where two objects meet, have no label
UNLABELLED = 255

_HEIGHTS = (0.23, 0.47)  # of a digit, as a share of the image height: 44 to 90 of 192 pixels
_TINTS = {'brick': (0.95, 0.55, 0.42), 'grass': (0.55, 0.85, 0.35), 'gravel': (0.85, 0.8, 0.72)}


@dataclass(frozen=True)
class Instance:
    """A digit in an image.

    Args:
        label (int): What it shows, 0 to 9.
        sample (int): Its index in scikit-learn's digits.
        mask (NDArray[np.bool_]): (H, W), the pixels of it that are seen.
    """

    label: int
    sample: int
    mask: NDArray[np.bool_]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The bounding box of the mask as left, top, width, height."""
        rows, cols = (np.flatnonzero(self.mask.any(axis)) for axis in (1, 0))
        return (
            int(cols[0]),
            int(rows[0]),
            int(cols[-1] - cols[0] + 1),
            int(rows[-1] - rows[0] + 1),
        )


@dataclass(frozen=True)
class Scene:
    """An image with its ground truth.

    Args:
        image (NDArray[np.uint8]): (H, W, 3), RGB.
        labels (NDArray[np.uint8]): (H, W), indices into ``THINGS + STUFF``, or ``UNLABELLED``.
        instances (list[Instance]): The digits.
        crops (list[tuple[str, Box]]): Each picture that was cropped, and where.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instances: list[Instance]
    crops: list[tuple[str, Box]]


def make_scene(seed: int, split: str, index: int, size: tuple[int, int]) -> Scene:
    """Compose an image. The same arguments always give the same image, whatever else is composed.

    Args:
        seed (int): Seed of the data set.
        split (str): ``train`` or ``val``.
        index (int): Number of the picture in its split.
        size (tuple[int, int]): Height and width.
    """
    rng = np.random.default_rng([seed, list(DIGITS).index(split), index])
    name = str(rng.choice(PHOTOGRAPHS['target']))
    canvas, box = random_crop(rng, name, split, size)
    canvas = np.clip(canvas * rng.uniform(0.8, 1.1), 0, 1)
    labels = np.full(size, len(THINGS) + STUFF.index('photograph'), np.uint8)
    crops = [(name, box)]
    for texture in rng.permutation(list(TEXTURES))[: rng.choice((1, 2), p=(0.6, 0.4))]:
        crops.append((TEXTURES[texture], _lay_ground(rng, canvas, labels, str(texture), split)))
    instances = _scatter_digits(rng, canvas, labels, split)
    return Scene((canvas * 255 + 0.5).astype(np.uint8), labels, instances, crops)


def _lay_ground(
    rng: np.random.Generator,
    canvas: NDArray[np.float32],
    labels: NDArray[np.uint8],
    texture: str,
    split: str,
) -> Box:
    """Cover one side of the canvas with a texture, up to a slanted straight edge."""
    height, width = labels.shape
    pixels, box = random_crop(rng, TEXTURES[texture], split, labels.shape, zoom=(0.5, 1.0))
    tint = np.array(_TINTS[texture], np.float32) * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    # mostly the ground, sometimes a wall on the left or right
    angle = rng.choice((90, 0, 180), p=(0.6, 0.2, 0.2)) + rng.uniform(-20, 20)
    normal = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    y, x = np.mgrid[:height, :width]
    distance = (x - width / 2) * normal[0] + (y - height / 2) * normal[1]
    reach = (abs(normal[0]) * width + abs(normal[1]) * height) / 2
    alpha = np.clip(distance - rng.uniform(0, 0.4) * reach + 0.5, 0, 1).astype(np.float32)
    canvas += alpha[..., None] * (np.clip(pixels * tint * 1.25, 0, 1) - canvas)
    labels[alpha > 0] = UNLABELLED
    labels[alpha == 1] = len(THINGS) + STUFF.index(texture)
    return box


def _scatter_digits(
    rng: np.random.Generator,
    canvas: NDArray[np.float32],
    labels: NDArray[np.uint8],
    split: str,
) -> list[Instance]:
    """Draw two to five digits with little overlap; later digits cover earlier ones."""
    images, targets = load_digits()
    height, width = labels.shape
    taken = np.zeros(labels.shape, bool)
    instances: list[Instance] = []
    for number in range(int(rng.integers(2, 6))):
        sample = int(rng.choice(DIGITS[split]))
        glyph = make_glyph(rng, images[sample], height * rng.uniform(*_HEIGHTS))
        place = _free_place(rng, glyph, taken)
        if place is None:
            if number < 2:  # there is always room for the first two
                raise ValueError(f'an image of {height}x{width} has no room for two digits')
            continue
        paste_glyph(rng, canvas, glyph, *place)
        alpha = _on_canvas(glyph, labels.shape, *place)
        mask = alpha >= 0.5
        for i, earlier in enumerate(instances):
            instances[i] = Instance(earlier.label, earlier.sample, earlier.mask & ~mask)
        labels[alpha > 0] = UNLABELLED
        labels[mask] = targets[sample]
        taken |= mask
        instances.append(Instance(int(targets[sample]), sample, mask))
    return instances


def _free_place(rng: np.random.Generator, glyph: Glyph, taken: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Find a random position where a glyph covers almost nothing of earlier digits; None if there is none."""
    room = [taken.shape[i] - glyph.alpha.shape[i] for i in (0, 1)]
    if min(room) < 0:
        return None
    for _ in range(60):
        y, x = (int(rng.integers(0, free + 1)) for free in room)
        hidden = taken & (_on_canvas(glyph, taken.shape, y, x) > 0)
        if hidden.sum() <= 0.03 * glyph.mask.sum():
            return y, x
    return None


def _on_canvas(glyph: Glyph, size: tuple[int, ...], y: int, x: int) -> NDArray[np.float32]:
    canvas = np.zeros(size, np.float32)
    (top, left), window = visible_window(glyph, size, y, x)
    alpha = glyph.alpha[window]
    canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]] = alpha
    return canvas
