"""Training sets with few images per class."""

from typing import Any

from protuning_mm.data.classification.subset import Labels, Subset
from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS


@DATASETS.register_module()
class FewShot(Subset):
    """The same small number of images of every class; with one seed, fewer shots are a subset of more shots.

    Args:
        dataset (dict | BaseDataset): The whole data set.
        shots (int): Images per class. Defaults to 16.
        seed (int): Seed of the selection. Defaults to 0.
        lazy_init (bool): Whether to load nothing before it is needed. Defaults to False.

    Raises:
        DataError: a class has fewer images.
    """

    def __init__(self, dataset: Any, shots: int = 16, seed: int = 0, lazy_init: bool = False) -> None:
        self.shots = shots
        super().__init__(dataset, seed, lazy_init)

    def choose(self, labels: Labels) -> list[int]:
        chosen: list[int] = []
        for label in range(max(len(self.CLASSES or ()), int(labels.max(initial=-1)) + 1)):
            images = self.shuffle_class(labels, label)
            if not 0 < self.shots <= len(images):
                raise DataError(f'FewShot: shots={self.shots}, but {self.class_name(label)} has {len(images)} images')
            chosen += images[: self.shots].tolist()
        return chosen
