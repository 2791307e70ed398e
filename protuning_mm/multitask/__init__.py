"""One resident frozen backbone, any number of tasks."""

from protuning_mm.multitask.front import MultiTask

__all__ = ['MultiTask']
