"""A grid of runs, its learning rates chosen on validation data, and its tables, plots and page."""

from protuning_mm.apis.study.command import main
from protuning_mm.apis.study.definition import Study
from protuning_mm.apis.study.errors import StudyError
from protuning_mm.apis.study.reading import read_study

__all__ = ['Study', 'StudyError', 'main', 'read_study']
