"""What a person calls from Python, and what the tools are made of."""

from protuning_mm.apis.multitask import MultiTask

__all__ = ['MultiTask']
