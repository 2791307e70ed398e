"""Accuracy that counts every class alike, however many test images it has."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from numpy.typing import NDArray

from protuning_mm.registry import METRICS


class LabelMetric(BaseMetric):
    """A metric of predicted and true labels: it keeps one pair an image."""

    default_prefix = 'accuracy'

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        self.results += [(predicted_label(sample), int(sample['gt_label'])) for sample in data_samples]


@METRICS.register_module()
class MeanClassAccuracy(LabelMetric):
    """The mean over classes of the share of the class's images that are classified right, in percent.

    Pets, Flowers and Caltech101 are scored by it as well as by top-1. Classes without a test image have no part in
    it; mmpretrain's macro recall counts them as 0, and is the same otherwise.

    Args:
        classwise (bool): Whether to report every class's accuracy too. Defaults to False.
        collect_device (str): Where results of several ranks are collected. Defaults to ``'cpu'``.
        prefix (str, optional): Of the metric's name. Defaults to ``'accuracy'``.
    """

    def __init__(self, classwise: bool = False, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.classwise = classwise

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        accuracies = class_accuracies(results)
        metrics = {'class_mean': float(np.nanmean(accuracies))}
        if self.classwise:
            names = (self.dataset_meta or {}).get('classes') or range(len(accuracies))
            metrics |= {f'class/{name}': float(value) for name, value in zip(names, accuracies) if np.isfinite(value)}
        return metrics


def predicted_label(sample: dict[str, Any]) -> int:
    """Return what a classifier predicts for one image: its label, or the highest of its scores."""
    return int(sample['pred_label']) if 'pred_label' in sample else int(sample['pred_score'].argmax())


def class_accuracies(results: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Return the percentage of each class's images that are classified right; nan for a class without any.

    Args:
        results (Sequence[tuple[int, int]]): Predicted and true label of every image.
    """
    predicted, true = np.array(results).T
    images = np.bincount(true)
    right = np.bincount(true[predicted == true], minlength=len(images))
    return np.where(images > 0, 100 * right / np.maximum(images, 1), np.nan)
