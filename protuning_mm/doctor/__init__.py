"""Checks of a config, its model and its data, to find faults before hours of training."""

from protuning_mm.doctor.checks import Report, run_checks
from protuning_mm.doctor.findings import Finding
from protuning_mm.doctor.training_setup import TrainingSetup

__all__ = ['Finding', 'Report', 'TrainingSetup', 'run_checks']
