"""A validation split of a training set."""

from typing import Any

from protuning_mm.data.classification.part import Labels, Part
from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS


@DATASETS.register_module()
class HeldOut(Part):
    """One of the two parts that a training set is split into, class by class.

    A learning rate that is chosen on the test set makes its accuracy too good. So: ``part='train'`` in the training
    loader, ``part='held_out'`` in the validation loader, with one seed and one fraction, and the test set once.
    With the same seed the parts have no image in common, and together they are the whole.

    Args:
        dataset (dict | BaseDataset): The training set, the same for both parts.
        part (str): ``'train'`` or ``'held_out'``. Defaults to ``'train'``.
        fraction (float): Of each class's images that is held out, rounded; at least one where there are two, and
            never all. Defaults to 0.1.
        seed (int): Of the choice. Defaults to 0.

    Raises:
        DataError: ``part`` or ``fraction`` is something else.
    """

    def __init__(
        self, dataset: Any, part: str = 'train', fraction: float = 0.1, seed: int = 0, lazy_init: bool = False
    ) -> None:
        if part not in ('train', 'held_out'):
            raise DataError(f"HeldOut: part={part!r}; there are 'train' and 'held_out'")
        if not 0 < fraction < 1:
            raise DataError(f'HeldOut: fraction={fraction} of the images cannot be held out; between 0 and 1, as 0.1')
        self.part = part
        self.fraction = fraction
        super().__init__(dataset, seed, lazy_init)

    def choose(self, labels: Labels) -> list[int]:
        held_out: set[int] = set()
        for label in sorted(set(labels.tolist())):
            images = self.shuffled(labels, label)
            count = min(max(1, int(self.fraction * len(images) + 0.5)), len(images) - 1)
            held_out.update(images[:count].tolist())
        if self.part == 'held_out':
            return list(held_out)
        return [i for i in range(len(labels)) if i not in held_out]
