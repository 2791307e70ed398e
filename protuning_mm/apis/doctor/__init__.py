"""What is wrong with a config, its model and its data, told before hours are spent on them."""

from protuning_mm.apis.doctor.case import Case
from protuning_mm.apis.doctor.examination import Report, examine
from protuning_mm.apis.doctor.findings import Finding
from protuning_mm.apis.doctor.main import main

__all__ = ['Case', 'Finding', 'Report', 'examine', 'main']
