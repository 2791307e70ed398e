"""Frozen parts of a network that cost almost no memory. Pure torch; usable on its own."""

from protuning_mm.frozen.fold import StaleWeightsError
from protuning_mm.frozen.takeover import FrozenReport, freeze_efficiently, refold, release, report, verify

__all__ = ['FrozenReport', 'StaleWeightsError', 'freeze_efficiently', 'refold', 'release', 'report', 'verify']
