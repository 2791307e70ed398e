"""Isolates the runs of one process from each other."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.utils import ManagerMixin


@contextmanager
def isolate_run() -> Iterator[None]:
    """Run the body with fresh global state of mmengine and torch, and restore the previous state afterwards.

    mmengine keeps loggers, message hubs, visualizers and default scopes in global tables. Their names contain the time
    in seconds, so two short runs would share them. Runners set cuDNN's deterministic and benchmark flags and never
    reset them. Random states are not restored, since every run sets its own seed.

    Existing objects (modules, registries) are hidden from the garbage collector, because mmengine runs it for each data
    set, and scanning all objects of the host libraries takes 0.6 s. ``gc.unfreeze`` makes them visible again.
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
        for cls in [ManagerMixin, *_subclasses(ManagerMixin)]:  # the run may have imported more subclasses
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
