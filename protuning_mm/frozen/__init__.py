"""Memory-efficient execution of the frozen parts of a network. Depends on torch only."""

from protuning_mm.frozen.efficient_execution import FrozenReport, freeze_efficiently, read_mode, release, report

__all__ = ['FrozenReport', 'freeze_efficiently', 'read_mode', 'release', 'report']
