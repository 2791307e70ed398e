"""Deltas: checkpoints without the frozen base, with a record that identifies the base."""

from protuning_mm.weights.deltas.loading import complete_delta
from protuning_mm.weights.deltas.record import RECORD, Base, DeltaRecord
from protuning_mm.weights.deltas.saving import drop_training_state, make_delta

__all__ = ['RECORD', 'Base', 'DeltaRecord', 'complete_delta', 'drop_training_state', 'make_delta']
