"""Memory-efficient execution of the frozen parts of a network. Depends on torch only."""

from protuning_mm.frozen.efficient_execution import (
    FROZEN_MODES,
    FrozenReport,
    freeze_efficiently,
    refold,
    release,
    report,
    share_folded_weights,
    verify,
)
from protuning_mm.frozen.folding import StaleWeightsError

__all__ = [
    'FROZEN_MODES',
    'FrozenReport',
    'StaleWeightsError',
    'freeze_efficiently',
    'refold',
    'release',
    'report',
    'share_folded_weights',
    'verify',
]
