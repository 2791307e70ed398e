"""Metrics that the host libraries do not have. For top-1, use mmpretrain's ``Accuracy``."""

from protuning_mm.data.metrics.class_accuracy import MeanClassAccuracy
from protuning_mm.data.metrics.corruption_accuracy import CorruptionAccuracy
from protuning_mm.data.metrics.shot_groups import ShotGroups
from protuning_mm.data.metrics.subset_accuracy import SubsetAccuracy

__all__ = ['CorruptionAccuracy', 'MeanClassAccuracy', 'ShotGroups', 'SubsetAccuracy']
