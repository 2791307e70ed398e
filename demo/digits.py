"""Draws a handwritten digit of 8x8 pixels on a photograph: enlarged, in colour and with a soft edge."""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.float32]

_INK = 0.42  # grey level from which a pixel belongs to the digit
_MARGIN = 6  # room for the edge and the halo, in pixels
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Glyph:
    """An enlarged digit, ready to draw.

    Args:
        alpha (Pixels): (h, w) in [0, 1], how much of each pixel is digit.
        ink (Pixels): (h, w) in [0, 1], how hard the pen was pressed.
    """

    alpha: Pixels
    ink: Pixels

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Pixels that belong to the digit by at least one half."""
        return self.alpha >= 0.5


def make_glyph(rng: np.random.Generator, sample: Pixels, height: float) -> Glyph:
    """Enlarge a sample smoothly, with a little rotation and stretch.

    Args:
        rng (np.random.Generator): The source of randomness.
        sample (Pixels): (8, 8) in [0, 1].
        height (float): Height of the digit in pixels, before the rotation.
    """
    padded = np.pad(sample, 1)
    tall = round(height * padded.shape[0] / sample.shape[0])
    wide = round(tall * rng.uniform(0.85, 1.1))
    image = Image.fromarray(padded).resize((wide, tall), Image.Resampling.BICUBIC)
    image = image.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    ink = np.asarray(image, np.float32)
    # the pen's grey rises by about one unit over an enlarged pixel: a ramp 1.5 screen pixels wide
    slope = height / 8 / 1.5
    alpha = np.clip((ink - _INK) * slope + 0.5, 0, 1)
    rows, cols = np.flatnonzero(alpha.max(1)), np.flatnonzero(alpha.max(0))
    window = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    alpha, ink = (np.pad(part[window], _MARGIN) for part in (alpha, ink))
    return Glyph(alpha.astype(np.float32), np.clip(ink, 0, 1))


def paste_glyph(rng: np.random.Generator, canvas: Pixels, glyph: Glyph, y: int, x: int) -> None:
    """Draw a glyph on a canvas in place, in a colour that contrasts with the background, with a soft halo.

    Args:
        rng (np.random.Generator): The source of randomness.
        canvas (Pixels): (H, W, 3) in [0, 1].
        glyph (Glyph): What to draw.
        y (int): Top row of the glyph in the canvas.
        x (int): Left column of the glyph in the canvas. Parts outside the canvas are cut off.
    """
    (top, left), window = visible_window(glyph, canvas.shape[:2], y, x)
    alpha, ink = glyph.alpha[window], glyph.ink[window]
    if not alpha.any():
        return
    height, width = alpha.shape
    target = canvas[top : top + height, left : left + width]
    colour = _contrasting_colour(rng, target[alpha >= min(0.5, alpha.max())])
    blurred = Image.fromarray((alpha * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
    halo = 0.6 * np.asarray(blurred, np.float32) / 255 * (1 - alpha)
    # a dark shadow under a bright digit, a light one under a dark digit
    halo_value = np.float32((colour @ _LUMA) < (target @ _LUMA).mean())
    target += halo[..., None] * (halo_value - target)
    paint = colour * (0.72 + 0.28 * ink[..., None])
    target += alpha[..., None] * (paint - target)


def visible_window(glyph: Glyph, size: tuple[int, ...], y: int, x: int) -> tuple[tuple[int, int], tuple[slice, slice]]:
    """Return where a glyph's visible part starts in a canvas of ``size``, and which part of the glyph that is."""
    height, width = glyph.alpha.shape
    rows = slice(max(0, -y), max(0, min(height, size[0] - y)))
    cols = slice(max(0, -x), max(0, min(width, size[1] - x)))
    return (max(0, y), max(0, x)), (rows, cols)


def _contrasting_colour(rng: np.random.Generator, behind: Pixels) -> Pixels:
    """Choose a strong colour whose brightness differs from that of the pixels behind it."""
    brightness = float((behind @ _LUMA).mean())
    best: Pixels = np.zeros(3, np.float32)
    largest = -1.0
    for _ in range(20):
        hue, saturation, value = rng.uniform((0, 0.45, 0.2), (1, 1, 1))
        colour = np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)
        difference = abs(float(colour @ _LUMA) - brightness)
        if difference > largest:
            best, largest = colour, difference
        if difference > 0.4:
            break
    return best
