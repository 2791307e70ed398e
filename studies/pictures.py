"""One picture of a task: a handwritten digit on a photograph, or a patch of a texture; 32×32, in colour."""

from typing import Any

import numpy as np

from demo.digits import make_glyph, paste_glyph
from demo.pixels import load_digits
from studies.pixels import DIGITS, PHOTOGRAPHS, TEXTURES, Pixels, random_crop

SIZE = 32
TASKS = {'digits': tuple(str(digit) for digit in range(10)), 'textures': tuple(TEXTURES)}
_BEHIND = (40, 200)  # side of what is seen behind a digit, in the photograph's pixels
_LIGHT = (0.15, 0.5)  # of what is seen behind a digit: a small network learns to find bright digits in minutes
_HEIGHTS = (17, 26)  # of a digit
_OPACITY = (0.4, 1.0)  # of a digit
_PATCH = (20, 72)  # side of a texture's patch
_NOISE = 0.06  # largest standard deviation


def draw_digit(rng: np.random.Generator, sample: int, party: str) -> tuple[Pixels, dict[str, Any]]:
    """Draw one of scikit-learn's digits somewhere on a photograph, more or less opaque.

    Args:
        rng (np.random.Generator): The source of randomness.
        sample (int): Index of the digit.
        party (str): Whose part of the photographs lies behind it.

    Returns:
        tuple: (32, 32, 3) in [0, 1], and where the pixels are from.
    """
    name = str(rng.choice(PHOTOGRAPHS))
    behind, box = random_crop(rng, name, party, _BEHIND, SIZE)
    glyph = make_glyph(rng, load_digits()[0][sample], rng.uniform(*_HEIGHTS))
    behind *= np.float32(rng.uniform(*_LIGHT))
    drawn = behind.copy()
    height, width = glyph.alpha.shape
    # a glyph has a margin for its halo: a little of it may leave the picture
    y, x = (round((SIZE - length) / 2 + rng.uniform(-3, 3)) for length in (height, width))
    paste_glyph(rng, drawn, glyph, y, x)
    picture = behind + np.float32(rng.uniform(*_OPACITY)) * (drawn - behind)
    return _noisy(rng, picture), {'digit': sample, 'picture': name, 'box': _rounded(box)}


def cut_texture(rng: np.random.Generator, texture: str, party: str) -> tuple[Pixels, dict[str, Any]]:
    """Cut a patch, turn it by quarters and give it brightness, contrast and colour of its own.

    Args:
        rng (np.random.Generator): The source of randomness.
        texture (str): Its name.
        party (str): Whose part of the picture it is cut from.

    Returns:
        tuple: (32, 32, 3) in [0, 1], and where the pixels are from.
    """
    patch, box = random_crop(rng, TEXTURES[texture], party, _PATCH, SIZE)
    grey = np.rot90(patch.mean(2), int(rng.integers(4)))
    # neither colour nor brightness may tell the class: most of these pictures are grey, and each of its own grey
    grey = (grey - grey.mean()) / (grey.std() + 0.02)
    tint = 1 + rng.uniform(-0.35, 0.35, 3)
    picture = (rng.uniform(0.35, 0.65) + rng.uniform(0.06, 0.2) * grey[..., None]) * tint
    return _noisy(rng, picture.astype(np.float32)), {'picture': TEXTURES[texture], 'box': _rounded(box)}


def draw(rng: np.random.Generator, task: str, label: int, party: str) -> tuple[Pixels, dict[str, Any]]:
    """Draw a picture of a class; a digit is any of the party's own (a source network has all of them)."""
    if task == 'textures':
        return cut_texture(rng, TASKS[task][label], party)
    return draw_digit(rng, int(rng.choice(samples_of(label, party))), party)


def samples_of(label: int, party: str) -> list[int]:
    """Indices of the digits of a class that a party may use."""
    targets = load_digits()[1]
    owned = DIGITS.get(party, range(len(targets)))
    return [sample for sample in owned if targets[sample] == label]


def _noisy(rng: np.random.Generator, picture: Pixels) -> Pixels:
    noise = rng.normal(0, rng.uniform(0, _NOISE), picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


def _rounded(box: tuple[float, float, float, float]) -> list[float]:
    return [round(side, 2) for side in box]
