"""Printed letters, as small and grey as scikit-learn's digits, from the fonts that Matplotlib contains."""

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# without letters that look like digits
LETTERS = tuple('ACDEFHJKLMNPRTUVWXY')
FONTS = tuple(
    f'DejaVu{face}.ttf'
    for face in ('Sans', 'Sans-Bold', 'Sans-Oblique', 'SansMono', 'Serif', 'Serif-Bold', 'Serif-Italic')
)
_LARGE = 64  # letters are drawn at this size, then shrunk


@cache
def load_letter(letter: str, font: str) -> NDArray[np.float32]:
    """Draw a letter as an image of 8x8 in [0, 1].

    Raises:
        FileNotFoundError: the installed Matplotlib does not contain the font.
    """
    path = Path(matplotlib.get_data_path()) / 'fonts/ttf' / font
    if not path.is_file():
        raise FileNotFoundError(f'{str(path)!r}: the installed Matplotlib does not contain this font')
    image = Image.new('L', (2 * _LARGE, 2 * _LARGE))
    ImageDraw.Draw(image).text((_LARGE // 2, _LARGE // 4), letter, 255, ImageFont.truetype(str(path), _LARGE))
    image = image.crop(image.getbbox())
    side = max(image.size)
    square = Image.new('L', (side, side))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return np.asarray(square.resize((8, 8), Image.Resampling.BOX), np.float32) / np.float32(255)
