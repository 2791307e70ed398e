"""Metrics that the hosts lack. Top-1 is mmpretrain's own ``Accuracy``."""

from protuning_mm.data.metrics.class_accuracy import MeanClassAccuracy
from protuning_mm.data.metrics.corruption_accuracy import CorruptionAccuracy
from protuning_mm.data.metrics.shot_groups import ShotGroups
from protuning_mm.data.metrics.subset_accuracy import SubsetAccuracy

__all__ = ['CorruptionAccuracy', 'MeanClassAccuracy', 'ShotGroups', 'SubsetAccuracy']
