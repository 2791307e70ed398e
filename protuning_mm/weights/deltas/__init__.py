"""Deltas: checkpoints without the frozen base, that know which base it was."""

from protuning_mm.weights.deltas.loading import complete
from protuning_mm.weights.deltas.record import RECORD, Base, DeltaRecord
from protuning_mm.weights.deltas.saving import inference_form, make_delta

__all__ = ['RECORD', 'Base', 'DeltaRecord', 'complete', 'inference_form', 'make_delta']
