"""Nothing of one run reaches the next in its process."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.utils import ManagerMixin


@contextmanager
def alone() -> Iterator[None]:
    """Give a run a process that looks new, and take away what it leaves.

    mmengine keeps loggers, message hubs, visualizers and default scopes by name for the life of the process; the name
    holds the time in seconds, so that two short runs would share them. Runners switch cuDNN to deterministic or to
    benchmarking, and never back. Random streams are not restored: every run seeds its own.

    What is there before (modules, registries) is put out of the garbage collector's sight: mmengine collects for each
    data set, and looking through all that the hosts keep takes 0.6 s every time. ``gc.unfreeze`` takes it back.
    """
    managers = [ManagerMixin, *_subclasses(ManagerMixin)]
    before: dict[Any, dict[str, Any]] = {cls: dict(cls._instance_dict) for cls in managers}
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    for cls in managers:
        cls._instance_dict.clear()
    gc.freeze()
    try:
        yield
    finally:
        for cls in [ManagerMixin, *_subclasses(ManagerMixin)]:  # a run may have imported more of them
            for instance in cls._instance_dict.values():
                for handler in instance.handlers if isinstance(instance, logging.Logger) else ():
                    handler.close()
            cls._instance_dict.clear()
            cls._instance_dict.update(before.get(cls, {}))
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _subclasses(cls: Any) -> list[Any]:
    return [each for child in cls.__subclasses__() for each in (child, *_subclasses(child))]
