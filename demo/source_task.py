"""The task of the source network: classify from which of eleven photographs a crop is.

It uses nothing of the demo's data set: no handwritten digits, other photographs, and none of the textures.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from demo.pixels import PHOTOGRAPHS, random_crop

CLASSES = PHOTOGRAPHS['source']
# of ImageNet, as in the configs of mmdet, mmseg and mmpretrain
MEAN = np.array([123.675, 116.28, 103.53], np.float32) / 255
STD = np.array([58.395, 57.12, 57.375], np.float32) / 255


class SourceCrops(Dataset[tuple[Tensor, int]]):
    """Crops that are cut on access; a crop depends only on its index and the seed.

    Args:
        length (int): Number of crops.
        seed (int): Seed.
        size (int): Height and width of a crop. Defaults to 80.
    """

    def __init__(self, length: int, seed: int, size: int = 80) -> None:
        self.length = length
        self.seed = seed
        self.size = size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        crop, label = self.cut(np.random.default_rng([self.seed, index]))
        return torch.from_numpy((crop - MEAN) / STD).permute(2, 0, 1).contiguous(), label

    def cut(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], int]:
        """Cut a crop: (size, size, 3) in [0, 1], and the label of its photograph."""
        number = int(rng.integers(len(CLASSES)))
        crop, _ = random_crop(rng, CLASSES[number], 'source', (self.size, self.size), zoom=(0.25, 1.0))
        # most of these photographs are grey, so give each crop random colours
        crop = np.clip(crop ** rng.uniform(0.6, 1.6) * rng.uniform(0.45, 1.25, 3), 0, 1)
        return crop.astype(np.float32), number
