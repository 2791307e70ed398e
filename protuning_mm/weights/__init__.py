"""Checkpoints: strict loading that never runs code, atomic writing with a checksum, and deltas."""

from protuning_mm.weights.errors import CheckpointError, FrozenWeightsError
from protuning_mm.weights.load import load_checkpoint_file
from protuning_mm.weights.pretrained import check_frozen_tensors, read_backbone_state
from protuning_mm.weights.safe_load import safe_torch_load

__all__ = [
    'CheckpointError',
    'FrozenWeightsError',
    'check_frozen_tensors',
    'load_checkpoint_file',
    'read_backbone_state',
    'safe_torch_load',
]
