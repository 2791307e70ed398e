"""Little data."""

from typing import Any

from protuning_mm.data.classification.part import Labels, Part
from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS


@DATASETS.register_module()
class FewShot(Part):
    """The same small number of images of every class. With one seed fewer shots are among more.

    Args:
        dataset (dict | BaseDataset): The whole data set.
        shots (int): Images a class. Defaults to 16.
        seed (int): Of the choice. Defaults to 0.

    Raises:
        DataError: a class has fewer images.
    """

    def __init__(self, dataset: Any, shots: int = 16, seed: int = 0, lazy_init: bool = False) -> None:
        self.shots = shots
        super().__init__(dataset, seed, lazy_init)

    def choose(self, labels: Labels) -> list[int]:
        chosen: list[int] = []
        for label in range(max(len(self.CLASSES or ()), int(labels.max(initial=-1)) + 1)):
            images = self.shuffled(labels, label)
            if not 0 < self.shots <= len(images):
                raise DataError(f'FewShot: shots={self.shots}, but {self.named(label)} has {len(images)} images')
            chosen += images[: self.shots].tolist()
        return chosen
