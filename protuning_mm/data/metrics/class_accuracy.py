"""Mean class accuracy: every class has the same weight, however many test images it has."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from numpy.typing import NDArray

from protuning_mm.registry import METRICS


class LabelMetric(BaseMetric):
    """A metric of predicted and true labels; it stores one pair per image."""

    default_prefix = 'accuracy'

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        self.results += [(get_predicted_label(sample), int(sample['gt_label'])) for sample in data_samples]


@METRICS.register_module()
class MeanClassAccuracy(LabelMetric):
    """The mean over classes of the percentage of the class's images that are classified correctly.

    Results on Pets, Flowers and Caltech101 are reported in this metric and in top-1. Classes without a test image are
    left out; mmpretrain's macro recall counts them as 0, and is otherwise the same.

    Args:
        classwise (bool): Whether to report the accuracy of every class too. Defaults to False.
        **kwargs: Arguments of mmengine's ``BaseMetric``.
    """

    def __init__(self, classwise: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classwise = classwise

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        accuracies = compute_class_accuracies(results)
        metrics = {'class_mean': float(np.nanmean(accuracies))}
        if self.classwise:
            names = (self.dataset_meta or {}).get('classes') or range(len(accuracies))
            metrics |= {f'class/{name}': float(value) for name, value in zip(names, accuracies) if np.isfinite(value)}
        return metrics


def get_predicted_label(sample: dict[str, Any]) -> int:
    """Return the label that a classifier predicts for one image: ``pred_label``, or the label of the highest score."""
    return int(sample['pred_label']) if 'pred_label' in sample else int(sample['pred_score'].argmax())


def compute_class_accuracies(results: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """Compute the percentage of each class's images that are classified correctly.

    Args:
        results (Sequence[tuple[int, int]]): Predicted and true label of every image.

    Returns:
        ndarray: (classes,); nan for a class without images.
    """
    predicted, true = np.array(results).T
    images = np.bincount(true)
    correct = np.bincount(true[predicted == true], minlength=len(images))
    return np.where(images > 0, 100 * correct / np.maximum(images, 1), np.nan)
