"""Hooks for mmengine's runner."""

from protuning_mm.engine.hooks.checkpoint_hook import CheckpointHook
from protuning_mm.engine.hooks.delta_checkpoint_hook import DeltaCheckpointHook
from protuning_mm.engine.hooks.early_stopping_hook import EarlyStoppingHook
from protuning_mm.engine.hooks.exact_resume_hook import ExactResumeHook
from protuning_mm.engine.hooks.feature_cache_hook import FeatureCacheHook
from protuning_mm.engine.hooks.frozen_audit_hook import FrozenAuditHook
from protuning_mm.engine.hooks.tuning_hook import TuningHook
from protuning_mm.engine.hooks.val_loss_hook import ValLossHook

__all__ = [
    'CheckpointHook',
    'DeltaCheckpointHook',
    'EarlyStoppingHook',
    'ExactResumeHook',
    'FeatureCacheHook',
    'FrozenAuditHook',
    'TuningHook',
    'ValLossHook',
]
