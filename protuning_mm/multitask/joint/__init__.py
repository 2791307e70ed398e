"""The joint pass: the frozen network runs once for the images of several tasks.

Nothing outside this folder depends on it except :class:`~protuning_mm.multitask.MultiTask`, which creates a
:class:`JointRunner`, and a request, which hands its batches to it.
"""

from protuning_mm.multitask.joint.runner import JointRunner

__all__ = ['JointRunner']
