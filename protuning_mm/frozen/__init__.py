"""Frozen parts of a network that cost almost no memory. Pure torch; usable on its own."""

from protuning_mm.frozen.efficient_execution import FrozenReport, freeze_efficiently, refold, release, report, verify
from protuning_mm.frozen.folding import StaleWeightsError

__all__ = ['FrozenReport', 'StaleWeightsError', 'freeze_efficiently', 'refold', 'release', 'report', 'verify']
