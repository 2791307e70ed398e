"""A validation split of a training set."""

from typing import Any

from protuning_mm.data.classification.subset import Labels, Subset
from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS


@DATASETS.register_module()
class HeldOut(Subset):
    """One of the two parts into which a training set is split, class by class.

    If the learning rate is chosen on the test set, the test accuracy is too optimistic. Use ``part='train'`` in the
    training loader and ``part='held_out'`` in the validation loader, with equal seed and fraction, and evaluate on the
    test set once. With equal seed and fraction, the two parts have no image in common and together contain all images.

    Args:
        dataset (dict | BaseDataset): The training set, the same for both parts.
        part (str): ``'train'``, ``'held_out'`` or ``'all'`` (both parts). Defaults to ``'train'``.
        fraction (float): Fraction of each class's images that is held out, rounded; at least one image if the class has
            two or more, and never all of them. Defaults to 0.1.
        seed (int): Seed of the selection. Defaults to 0.
        lazy_init (bool): Whether to load nothing before it is needed. Defaults to False.

    Raises:
        DataError: ``part`` is none of these, or ``fraction`` is not between 0 and 1.
    """

    def __init__(
        self, dataset: Any, part: str = 'train', fraction: float = 0.1, seed: int = 0, lazy_init: bool = False
    ) -> None:
        if part not in ('train', 'held_out', 'all'):
            raise DataError(f"HeldOut: part={part!r}; must be 'train', 'held_out' or 'all'")
        if not 0 < fraction < 1:
            raise DataError(f'HeldOut: fraction={fraction} must be between 0 and 1, such as 0.1')
        self.part = part
        self.fraction = fraction
        super().__init__(dataset, seed, lazy_init)

    def choose(self, labels: Labels) -> list[int]:
        held_out: set[int] = set()
        for label in sorted(set(labels.tolist())):
            images = self.shuffle_class(labels, label)
            count = min(max(1, int(self.fraction * len(images) + 0.5)), len(images) - 1)
            held_out.update(images[:count].tolist())
        if self.part == 'held_out':
            return list(held_out)
        return [i for i in range(len(labels)) if self.part == 'all' or i not in held_out]
