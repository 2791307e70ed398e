"""What is wrong with a config, its model and its data, told before hours are spent on them."""

from protuning_mm.doctor.case import Case
from protuning_mm.doctor.examination import Report, examine
from protuning_mm.doctor.findings import Finding

__all__ = ['Case', 'Finding', 'Report', 'examine']
