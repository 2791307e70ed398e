"""Many tasks on one frozen backbone in memory."""

from protuning_mm.multitask.multi_task import MultiTask

__all__ = ['MultiTask']
