"""The base class of data sets that keep some images of another data set."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS
from numpy.typing import NDArray

Labels = NDArray[np.int64]


class Subset(ABC):
    """Some images of a classification data set, in its order; a subclass chooses which.

    Classes, labels and pipeline are those of the whole data set. Subsets can be nested, for example a long tail of a
    held-out split.

    Args:
        dataset (dict | BaseDataset): The whole data set: one of mmpretrain's, one of this package, or another subset.
        seed (int): Seed of the selection. The same seed selects the same images on every machine. Defaults to 0.
        lazy_init (bool): Whether to load nothing before it is needed. Defaults to False.
    """

    def __init__(self, dataset: dict[str, Any] | BaseDataset, seed: int = 0, lazy_init: bool = False) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.seed = seed
        self._fully_initialized = False
        if not lazy_init:
            self.full_init()

    @abstractmethod
    def choose(self, labels: Labels) -> list[int]:
        """Return the indices of the images to keep.

        Args:
            labels (ndarray): The label of every image of the whole data set.
        """

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        self.dataset.full_init()
        # a copy without the other images: an image that cannot be loaded is replaced by one of this subset
        self.dataset = self.dataset.get_subset(sorted(self.choose(self.dataset.get_gt_labels())))
        self._fully_initialized = True

    def get_subset(self, indices: Sequence[int] | int) -> 'Subset':
        self.full_init()
        subset = copy.copy(self)
        subset.dataset = self.dataset.get_subset(indices)
        return subset

    @property
    def num_per_class(self) -> list[int]:
        """Number of images of each class."""
        return np.bincount(self.get_gt_labels(), minlength=len(self.CLASSES or ())).tolist()

    @property
    def metainfo(self) -> dict[str, Any]:
        return self.dataset.metainfo

    @property
    def CLASSES(self) -> Any:  # noqa: N802, mmpretrain's name
        return self.metainfo.get('classes')

    def get_gt_labels(self) -> Labels:
        self.full_init()
        return self.dataset.get_gt_labels()

    def get_cat_ids(self, idx: int) -> list[int]:
        self.full_init()
        return self.dataset.get_cat_ids(idx)

    def get_data_info(self, idx: int) -> dict[str, Any]:
        self.full_init()
        return self.dataset.get_data_info(idx)

    def __len__(self) -> int:
        self.full_init()
        return len(self.dataset)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        self.full_init()
        return self.dataset[idx]

    def shuffle_class(self, labels: Labels, label: int) -> Labels:
        """Return the indices of a class's images in random order, which depends only on the seed and the class."""
        return np.random.default_rng((self.seed, label)).permutation(np.flatnonzero(labels == label))

    def class_name(self, label: int) -> str:
        """Return a class's name, for errors."""
        return repr(self.CLASSES[label]) if self.CLASSES else f'label {label}'
