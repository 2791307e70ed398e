"""Accuracy on the head, the middle and the end of a long tail."""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS

from protuning_mm.data.metrics.class_accuracy import LabelMetric, class_accuracies
from protuning_mm.registry import METRICS

GROUPS = ('many', 'medium', 'few')
MANY, FEW = 100, 20


def shot_groups(counts: Iterable[int], many: int = MANY, few: int = FEW) -> list[str]:
    """Name the group of each class by its number of training images: above ``many``, below ``few``, or between."""
    return ['many' if n > many else 'few' if n < few else 'medium' for n in counts]


@METRICS.register_module()
class ShotGroups(LabelMetric):
    """Mean class accuracy of the classes with many, medium and few training images, in percent.

    The groups of `Large-Scale Long-Tailed Recognition in an Open World <https://arxiv.org/abs/1904.05160>`_ (Liu et
    al., CVPR 2019): more than 100 training images, 20 to 100, fewer than 20. A group without classes is not reported:
    CIFAR-10-LT has no few-shot class at an imbalance ratio of 100.

    Args:
        class_counts (Sequence[int], optional): Training images of every class. Defaults to None: counted.
        train_dataset (dict, optional): Config of the training set whose labels are counted. Defaults to None: that of
            the run's own ``train_dataloader``.
        many (int): More images than this are many. Defaults to 100.
        few (int): Fewer images than this are few. Defaults to 20.
        collect_device (str): Where results of several ranks are collected. Defaults to ``'cpu'``.
        prefix (str, optional): Of the metric's name. Defaults to ``'accuracy'``.

    Raises:
        ValueError: both of ``class_counts`` and ``train_dataset`` are given, or neither and no run has a training
            set; or a test image's class is none that was counted.
    """

    def __init__(
        self,
        class_counts: Sequence[int] | None = None,
        train_dataset: dict[str, Any] | None = None,
        many: int = MANY,
        few: int = FEW,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if train_dataset is not None and class_counts is not None:
            raise ValueError('ShotGroups: class_counts and train_dataset both say how many training images there are')
        self.train_dataset = deepcopy(train_dataset)
        self.class_counts = class_counts
        self.many, self.few = many, few

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        accuracies = class_accuracies(results)
        if self.class_counts is None:
            dataset = DATASETS.build(self.train_dataset or _dataset_of_the_run())
            classes = len(dataset.metainfo.get('classes') or ())  # the last ones may have no image
            self.class_counts = np.bincount(dataset.get_gt_labels(), minlength=classes).tolist()
        counts = np.array(self.class_counts)
        if len(accuracies) > len(counts):
            raise ValueError(
                f'ShotGroups: the test set has the label {len(accuracies) - 1}, but training images were counted for '
                f'{len(counts)} classes'
            )
        counts = counts[: len(accuracies)]
        groups = np.array(shot_groups(counts, self.many, self.few))
        tested = np.isfinite(accuracies)
        found = {name: tested & (groups == name) for name in GROUPS}
        return {name: float(accuracies[chosen].mean()) for name, chosen in found.items() if chosen.any()}


def _dataset_of_the_run() -> Any:
    """Read the training set's config from the run's, which mmengine's RuntimeInfoHook leaves in the message hub."""
    text = MessageHub.get_current_instance().get_info('cfg', '')
    dataset = (Config.fromstring(text, '.py').get('train_dataloader') or {}).get('dataset')
    if dataset is None:
        raise ValueError(
            'ShotGroups wants to know how many training images each class has, and the run has no train_dataloader: '
            'give it class_counts=[5000, 2997, …], or train_dataset=<the config of the training set>'
        )
    return dataset
