"""Hooks, optimizer constructor and checks for training with mmengine's runner."""

from protuning_mm.engine.hooks import (
    CheckpointHook,
    DeltaCheckpointHook,
    EarlyStoppingHook,
    ExactResumeHook,
    FrozenAuditHook,
    TuningHook,
)
from protuning_mm.engine.optim import TrainableOptimWrapperConstructor
from protuning_mm.engine.parameter_table import ParameterTable, count_parameters

__all__ = [
    'CheckpointHook',
    'DeltaCheckpointHook',
    'EarlyStoppingHook',
    'ExactResumeHook',
    'FrozenAuditHook',
    'ParameterTable',
    'TrainableOptimWrapperConstructor',
    'TuningHook',
    'count_parameters',
]
