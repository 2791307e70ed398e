"""Accuracy on corrupted images."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from protuning_mm.data.metrics.class_accuracy import get_predicted_label
from protuning_mm.registry import METRICS


@METRICS.register_module()
class CorruptionAccuracy(BaseMetric):
    """Accuracy and error of every corruption, averaged over its severities, and their means, in percent.

    The means are those of `Benchmarking Neural Network Robustness to Common Corruptions and Perturbations
    <https://arxiv.org/abs/1903.12261>`_ (Hendrycks and Dietterich, ICLR 2019): first over severities, then over
    corruptions. As usual for CIFAR-C, they are not divided by AlexNet's error. The error is 100 − accuracy.

    ``generated`` is the share of images that a library generated: 0 for the published files.

    Args:
        by_severity (bool): Whether to report every severity of every corruption too. Defaults to False.
        **kwargs: Arguments of mmengine's ``BaseMetric``.

    Raises:
        ValueError: the test pipeline does not pack the name of the corruption.
    """

    default_prefix = 'corruption'

    def __init__(self, by_severity: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.by_severity = by_severity

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        for sample in data_samples:
            if not {'corruption', 'severity', 'generated'} <= set(sample):
                raise ValueError(
                    'CorruptionAccuracy: a test image does not name its corruption. If the files are not corrupted, '
                    "the test pipeline needs dict(type='protuning_mm.Corrupt', …). In any case, it must pack the name: "
                    "dict(type='PackInputs', meta_keys=('corruption', 'severity', 'generated'))"
                )
            right = get_predicted_label(sample) == int(sample['gt_label'])
            self.results.append((sample['corruption'], sample['severity'], sample['generated'], right))

    def compute_metrics(self, results: list[tuple[str, int, bool, bool]]) -> dict[str, float]:
        right: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
        for corruption, severity, _, is_right in results:
            right[corruption][severity].append(is_right)
        metrics, means = {}, []
        for corruption, severities in right.items():
            accuracies = {severity: 100 * float(np.mean(each)) for severity, each in sorted(severities.items())}
            metrics[corruption] = float(np.mean(list(accuracies.values())))
            means.append(metrics[corruption])
            metrics[f'{corruption}_error'] = 100 - metrics[corruption]
            if self.by_severity:
                metrics |= {f'{corruption}_{severity}': value for severity, value in accuracies.items()}
        mean, generated = float(np.mean(means)), float(np.mean([made for _, _, made, _ in results]))
        return metrics | dict(mean=mean, mean_error=100 - mean, generated=generated)
