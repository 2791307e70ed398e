"""Draws one image of a task: a glyph on a photograph, or a patch of a photograph or texture; 32×32, in colour.

The target tasks are digits and textures. The source task of a world has more classes, as ImageNet has more classes than
a target: glyphs and patches, only from that world.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.digits import make_glyph, paste_glyph
from demo.pixels import load_digits
from studies.letters import FONTS, LETTERS, load_letter
from studies.pixels import DIGITS, PHOTOGRAPHS, TEXTURES, Pixels, random_crop

SIZE = 32
WORLDS = {
    'digits': {name.partition('.')[0]: name for name in PHOTOGRAPHS},
    'textures': TEXTURES,
}  # class -> file name of its photograph or texture
NUMERALS = tuple(str(digit) for digit in range(10))
TARGETS = {'digits': NUMERALS, 'textures': tuple(TEXTURES)}
SOURCES = {'digits': (*NUMERALS, *WORLDS['digits']), 'textures': (*LETTERS, *WORLDS['textures'])}

_BEHIND = (40, 200)  # side of the background of a glyph, in pixels of the photograph
_LIGHT = (0.15, 0.5)  # brightness of the background; a small network quickly learns to find bright glyphs
_HEIGHTS = (17, 26)  # of a glyph
_OPACITY = (0.5, 1.0)  # of a glyph
_PATCH = (32, 72)  # side of a patch
_NOISE = 0.04  # largest standard deviation

Origin = dict[str, Any]


def draw(rng: np.random.Generator, world: str, name: str, party: str) -> tuple[Pixels, Origin]:
    """Draw an image of a class.

    Args:
        rng (np.random.Generator): The source of randomness.
        world (str): ``digits`` or ``textures``.
        name (str): The class. A digit is drawn from those of the party.
        party (str): A split, or ``source``, which may use the whole world.

    Returns:
        tuple: The image, (32, 32, 3) in [0, 1], and the origin of its pixels.
    """
    if name in WORLDS[world]:
        return cut_patch(rng, WORLDS[world][name], party)
    if name in LETTERS:
        return draw_glyph(rng, load_letter(name, str(rng.choice(FONTS))), world, party)
    return draw_digit(rng, int(rng.choice(samples_of(int(name), party))), party)


def draw_digit(rng: np.random.Generator, sample: int, party: str) -> tuple[Pixels, Origin]:
    """Draw one of scikit-learn's handwritten digits; the origin contains its index."""
    picture, origin = draw_glyph(rng, load_digits()[0][sample], 'digits', party)
    return picture, {'digit': sample, **origin}


def draw_glyph(rng: np.random.Generator, glyph: NDArray[np.float32], world: str, party: str) -> tuple[Pixels, Origin]:
    """Draw an 8x8 glyph large and bright, with random opacity, on a random image of a world."""
    name = str(rng.choice(list(WORLDS[world].values())))
    behind, box = random_crop(rng, name, party, _BEHIND, SIZE)
    behind = behind * np.float32(rng.uniform(*_LIGHT))
    drawn = behind.copy()
    large = make_glyph(rng, glyph, rng.uniform(*_HEIGHTS))
    # a glyph has a margin for its halo, which may partly leave the image
    y, x = (round((SIZE - length) / 2 + rng.uniform(-3, 3)) for length in large.alpha.shape)
    paste_glyph(rng, drawn, large, y, x)
    picture = behind + np.float32(rng.uniform(*_OPACITY)) * (drawn - behind)
    return _noisy(rng, picture), {'picture': name, 'box': _rounded(box)}


def cut_patch(rng: np.random.Generator, picture: str, party: str) -> tuple[Pixels, Origin]:
    """Cut a patch, rotate it by multiples of 90 degrees, and give it a random brightness and colour."""
    patch, box = random_crop(rng, picture, party, _PATCH, SIZE)
    grey = np.rot90(patch.mean(2), int(rng.integers(4)))
    # most of these images are grey, so colour must not reveal the class
    tint = rng.uniform(0.75, 1.15) * (1 + rng.uniform(-0.25, 0.25, 3))
    pixels = grey[..., None] * tint
    return _noisy(rng, pixels.astype(np.float32)), {'picture': picture, 'box': _rounded(box)}


def samples_of(label: int, party: str) -> list[int]:
    """Return the indices of the digits of a class that a party may use."""
    targets = load_digits()[1]
    owned = DIGITS.get(party, range(len(targets)))
    return [sample for sample in owned if targets[sample] == label]


def _noisy(rng: np.random.Generator, picture: Pixels) -> Pixels:
    noise = rng.normal(0, rng.uniform(0, _NOISE), picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


def _rounded(box: tuple[float, float, float, float]) -> list[float]:
    return [round(side, 2) for side in box]
