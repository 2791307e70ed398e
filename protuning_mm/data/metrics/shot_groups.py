"""Accuracy on classes with many, medium and few training images."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS

from protuning_mm.data.metrics.class_accuracy import LabelMetric, compute_class_accuracies
from protuning_mm.registry import METRICS

GROUPS = ('many', 'medium', 'few')
MANY, FEW = 100, 20


def assign_shot_groups(counts: Iterable[int], many: int = MANY, few: int = FEW) -> list[str]:
    """Assign each class to a group by its number of training images: above ``many``, below ``few``, or between."""
    return ['many' if n > many else 'few' if n < few else 'medium' for n in counts]


@METRICS.register_module()
class ShotGroups(LabelMetric):
    """Mean class accuracy of the classes with many, medium and few training images, in percent.

    The groups of `Large-Scale Long-Tailed Recognition in an Open World <https://arxiv.org/abs/1904.05160>`_ (Liu et
    al., CVPR 2019): more than 100 training images, 20 to 100, fewer than 20. A group without classes is not reported:
    CIFAR-10-LT has no few-shot class at an imbalance ratio of 100.

    Args:
        class_counts (Sequence[int], optional): Training images of every class. Defaults to None: they are counted.
        train_dataset (dict, optional): Config of the training set whose labels are counted. Defaults to None: that of
            the run's ``train_dataloader``.
        many (int): A class with more images belongs to the group ``many``. Defaults to 100.
        few (int): A class with fewer images belongs to the group ``few``. Defaults to 20.
        **kwargs: Arguments of mmengine's ``BaseMetric``.

    Raises:
        ValueError: both ``class_counts`` and ``train_dataset`` are given; or neither is, and the run has no training
            set; or a test image has a class that was not counted.
    """

    def __init__(
        self,
        class_counts: Sequence[int] | None = None,
        train_dataset: dict[str, Any] | None = None,
        many: int = MANY,
        few: int = FEW,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if train_dataset is not None and class_counts is not None:
            raise ValueError(
                'ShotGroups: class_counts and train_dataset both give the numbers of images; give only one'
            )
        self.train_dataset = deepcopy(train_dataset)
        self.class_counts = class_counts
        self.many, self.few = many, few

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        accuracies = compute_class_accuracies(results)
        if self.class_counts is None:
            dataset = DATASETS.build(self.train_dataset or _find_dataset_of_run())
            classes = len(dataset.metainfo.get('classes') or ())  # the last classes may have no image
            self.class_counts = np.bincount(dataset.get_gt_labels(), minlength=classes).tolist()
        counts = np.array(self.class_counts)
        if len(accuracies) > len(counts):
            raise ValueError(
                f'ShotGroups: the test set has the label {len(accuracies) - 1}, but training images were counted for '
                f'{len(counts)} classes'
            )
        counts = counts[: len(accuracies)]
        groups = np.array(assign_shot_groups(counts, self.many, self.few))
        tested = np.isfinite(accuracies)
        found = {name: tested & (groups == name) for name in GROUPS}
        return {name: float(accuracies[chosen].mean()) for name, chosen in found.items() if chosen.any()}


def _find_dataset_of_run() -> Any:
    """Read the training set's config from the run's config, which RuntimeInfoHook writes into the message hub."""
    text = MessageHub.get_current_instance().get_info('cfg', '')
    dataset = (Config.fromstring(text, '.py').get('train_dataloader') or {}).get('dataset')
    if dataset is None:
        raise ValueError(
            'ShotGroups needs the number of training images of each class, but the run has no train_dataloader: '
            'give it class_counts=[5000, 2997, …], or train_dataset=<the config of the training set>'
        )
    return dataset
