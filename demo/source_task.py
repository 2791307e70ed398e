"""The source network's task: tell what a small crop shows, a handwritten digit from 0 to 4 or one of some photographs.

Nothing of the demo's data set is used: other handwritten digits, none of them a 5 to 9, other photographs, none of the
textures. One label a crop; where a digit is, how large it is and what its pixels are is never told.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from demo.digits import make_glyph, paste_glyph
from demo.pixels import DIGITS, PHOTOGRAPHS, load_digits, random_crop

SEEN = 5  # digits 0 to 4; the demo has all ten
CLASSES = (*(str(digit) for digit in range(SEEN)), *PHOTOGRAPHS['source'])
# The last fifty of the source's own digits measure what was learned.
_SAMPLES = [sample for sample in DIGITS['source'] if load_digits()[1][sample] < SEEN]
TRAINED, HELD_OUT = _SAMPLES[:-50], _SAMPLES[-50:]
# ImageNet's, as the hosts' configs have them
MEAN = np.array([123.675, 116.28, 103.53], np.float32) / 255
STD = np.array([58.395, 57.12, 57.375], np.float32) / 255

_DIGIT_SHARE = 0.7  # of the crops


class SourceCrops(Dataset[tuple[Tensor, int]]):
    """Crops that are composed when they are asked for; the index and the seed decide everything in one.

    Args:
        length (int): Number of crops.
        seed (int): Seed.
        samples (Sequence[int]): Handwritten digits to draw from.
        size (int): Height and width of a crop. Defaults to 80.
    """

    def __init__(self, length: int, seed: int, samples: Sequence[int], size: int = 80) -> None:
        self.length = length
        self.seed = seed
        self.samples = samples
        self.size = size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        crop, label = self.compose(np.random.default_rng([self.seed, index]))
        return torch.from_numpy((crop - MEAN) / STD).permute(2, 0, 1).contiguous(), label

    def compose(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], int]:
        """Compose a crop: (size, size, 3) in [0, 1], and its class."""
        photographs = PHOTOGRAPHS['source']
        number = int(rng.integers(len(photographs)))
        shape = (self.size, self.size)
        crop, _ = random_crop(rng, photographs[number], 'source', shape, zoom=(0.25, 1.0))
        # most of these photographs are grey: give each crop colours of its own
        crop = np.clip(crop ** rng.uniform(0.6, 1.6) * rng.uniform(0.45, 1.25, 3), 0, 1)
        crop = crop.astype(np.float32)
        for _ in range(int(rng.integers(0, 3))):
            self._paste(rng, crop, inside=False)
        if rng.random() >= _DIGIT_SHARE:
            return crop, SEEN + number
        return crop, self._paste(rng, crop, inside=True)

    def _paste(self, rng: np.random.Generator, crop: NDArray[np.float32], inside: bool) -> int:
        """Draw a digit wholly inside the crop, or let one look in over its border as clutter."""
        images, targets = load_digits()
        sample = int(rng.choice(self.samples))
        glyph = make_glyph(rng, images[sample], self.size * rng.uniform(0.4, 0.95))
        height, width = glyph.alpha.shape
        free_y, free_x = max(1, self.size - height + 8), max(1, self.size - width + 8)
        y, x = int(rng.integers(-4, free_y)), int(rng.integers(-4, free_x))
        if not inside:  # a third of it is seen at most
            side = int(rng.integers(4))
            shown = rng.uniform(0.1, 0.33)
            y = {0: round((shown - 1) * height), 1: round(self.size - shown * height)}.get(side, y)
            x = {2: round((shown - 1) * width), 3: round(self.size - shown * width)}.get(side, x)
        paste_glyph(rng, crop, glyph, y, x)
        return int(targets[sample])
