"""Top-1 accuracy restricted to the classes that a test set contains."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric

from protuning_mm.registry import METRICS


@METRICS.register_module()
class SubsetAccuracy(BaseMetric):
    """Top-1 in percent, with a 1000-class head's scores restricted to the classes of ImageNet-A or ImageNet-R.

    As in the authors' evaluation, classes that the data set does not contain cannot be predicted. ``subset`` in the
    data set's metainfo lists the contained classes (``protuning_mm.ImageNetA``). Without it, all classes count, and
    this is the usual top-1.

    Args:
        subset (Sequence[int], optional): Labels of the contained classes. Defaults to None: those of the data set's
            metainfo.
        **kwargs: Arguments of mmengine's ``BaseMetric``.
    """

    default_prefix = 'accuracy'

    def __init__(self, subset: Sequence[int] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.subset = subset

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        subset = self.subset or (self.dataset_meta or {}).get('subset')
        for sample in data_samples:
            scores = sample['pred_score']
            labels = range(len(scores)) if subset is None else subset
            self.results.append(labels[int(scores[list(labels)].argmax())] == int(sample['gt_label']))

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        return {'top1': 100 * float(np.mean(results))}
