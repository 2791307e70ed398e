"""Accuracy on the head, the middle and the end of a long tail."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from protuning_mm.evaluation.class_accuracy import LabelMetric, class_accuracies
from protuning_mm.registry import METRICS


@METRICS.register_module()
class ShotGroups(LabelMetric):
    """Mean class accuracy of the classes with many, medium and few training images, in percent.

    The groups of `Large-Scale Long-Tailed Recognition in an Open World <https://arxiv.org/abs/1904.05160>`_ (Liu et
    al., CVPR 2019): more than 100 training images, 20 to 100, fewer than 20. A group without classes is not reported:
    CIFAR-10-LT has no few-shot class at an imbalance ratio of 100.

    Args:
        train_dataset (dict, optional): Config of the training set, whose labels are counted.
        class_counts (Sequence[int], optional): Training images of every class, instead.
        many (int): More images than this are many. Defaults to 100.
        few (int): Fewer images than this are few. Defaults to 20.
        collect_device (str): Where results of several ranks are collected. Defaults to ``'cpu'``.
        prefix (str, optional): Of the metric's name. Defaults to ``'accuracy'``.

    Raises:
        ValueError: neither or both of ``train_dataset`` and ``class_counts`` are given, or a test image's class is
            none that was counted.
    """

    def __init__(
        self,
        train_dataset: dict[str, Any] | None = None,
        class_counts: Sequence[int] | None = None,
        many: int = 100,
        few: int = 20,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if (train_dataset is None) == (class_counts is None):
            raise ValueError(
                'ShotGroups wants to know how many training images each class has: give it '
                'train_dataset=<the config of train_dataloader.dataset>, or class_counts=[5000, 2997, …], one of them'
            )
        self.train_dataset = deepcopy(train_dataset)
        self.class_counts = class_counts
        self.many, self.few = many, few

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        accuracies = class_accuracies(results)
        if self.class_counts is None:
            self.class_counts = np.bincount(DATASETS.build(self.train_dataset).get_gt_labels()).tolist()
        counts = np.array(self.class_counts)
        if len(accuracies) > len(counts):
            raise ValueError(
                f'ShotGroups: the test set has the label {len(accuracies) - 1}, but training images were counted for '
                f'{len(counts)} classes'
            )
        counts = counts[: len(accuracies)]
        groups = {
            'many': counts > self.many,
            'medium': (counts >= self.few) & (counts <= self.many),
            'few': counts < self.few,
        }
        tested = np.isfinite(accuracies)
        return {name: float(accuracies[g & tested].mean()) for name, g in groups.items() if (g & tested).any()}
