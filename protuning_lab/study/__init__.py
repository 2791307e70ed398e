"""Runs a grid of trainings, chooses learning rates on validation data, and writes tables, plots and an HTML page."""

from protuning_lab.study.command import main
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.study_file import read_study

__all__ = ['Study', 'StudyError', 'main', 'read_study']
