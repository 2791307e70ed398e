"""A grid of runs, its learning rates chosen on validation data, and its tables, plots and page."""

from protuning_lab.study.command import main
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.reading import read_study

__all__ = ['Study', 'StudyError', 'main', 'read_study']
