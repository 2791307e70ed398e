"""Memory-efficient execution of the frozen parts of a network. Depends on torch only."""

from protuning_mm.frozen.efficient_execution import (
    FrozenReport,
    freeze_efficiently,
    read_mode,
    refold,
    release,
    report,
    share_folded_weights,
    verify,
)
from protuning_mm.frozen.folding import StaleWeightsError

__all__ = [
    'FrozenReport',
    'StaleWeightsError',
    'freeze_efficiently',
    'read_mode',
    'refold',
    'release',
    'report',
    'share_folded_weights',
    'verify',
]
