"""Long-tailed subsets of balanced data sets."""

from typing import Any

import numpy as np

from protuning_mm.data.classification.subset import Labels, Subset
from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS


@DATASETS.register_module()
class LongTailed(Subset):
    """A long tail of a data set: class i keeps n_i = n_max · IR^(−i/(C−1)) images.

    The profile is that of `Class-Balanced Loss Based on Effective Number of Samples <https://arxiv.org/abs/1901.05555>`_
    (Cui et al., CVPR 2019), truncated as in LDAM's published code, so that CIFAR-10 and CIFAR-100 get the published
    counts. *Which* images of a class are kept depends on the seed; there is no published list of them. With one seed
    and one n_max, the images of a higher ratio are a subset of those of a lower one.

    Args:
        dataset (dict | BaseDataset): The whole data set.
        imbalance_ratio (float): Images of the first class divided by images of the last, at least 1. Defaults to 100.
        max_per_class (int, optional): Images of the first class, n_max. Defaults to None: the largest number for which
            no n_i exceeds the images of its class; in a balanced data set, all images of the first class.
        seed (int): Seed of the selection. Defaults to 0.
        lazy_init (bool): Whether to load nothing before it is needed. Defaults to False.

    Raises:
        DataError: a class has too few images for the profile, or would keep none.
    """

    def __init__(
        self,
        dataset: Any,
        imbalance_ratio: float = 100,
        max_per_class: int | None = None,
        seed: int = 0,
        lazy_init: bool = False,
    ) -> None:
        if imbalance_ratio < 1:
            raise DataError(
                f'LongTailed: imbalance_ratio={imbalance_ratio} is below 1; it is the number of images of the first '
                'class divided by that of the last, 100 for the usual long tail'
            )
        self.imbalance_ratio = imbalance_ratio
        self.max_per_class = max_per_class
        super().__init__(dataset, seed, lazy_init)

    def choose(self, labels: Labels) -> list[int]:
        counts = np.bincount(labels, minlength=len(self.CLASSES or ()))
        # the share of the first class's images that each class keeps, from 1 down to 1 / imbalance_ratio
        share = (1 / self.imbalance_ratio) ** (np.arange(len(counts)) / max(len(counts) - 1, 1))
        most = int((counts / share).min()) if self.max_per_class is None else self.max_per_class
        keep = (most * share).astype(int)
        for label, (wanted, found) in enumerate(zip(keep, counts, strict=True)):
            if not 0 < wanted <= found:
                raise DataError(
                    f'LongTailed: imbalance_ratio={self.imbalance_ratio} and {most} images of the first class leave '
                    f'{wanted} for {self.class_name(label)}, which has {found}. Lower imbalance_ratio or max_per_class.'
                )
        return [int(i) for label, count in enumerate(keep) for i in self.shuffle_class(labels, label)[:count]]
