"""Data: checks of data sets before training, label counts, metrics, and data sets that mmpretrain does not have."""

from protuning_mm.data.data_files import check_data_files
from protuning_mm.data.errors import DataError

__all__ = ['DataError', 'check_data_files']
