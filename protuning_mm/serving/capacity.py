"""How many tasks a server keeps in memory."""

import argparse
import re
from dataclasses import dataclass

from protuning_mm.multitask.task import Task

_MIB = 1 << 20


@dataclass(frozen=True)
class Capacity:
    """How many tasks stay in memory.

    Args:
        amount (float): The number of tasks, or the MiB that their own tensors take together.
        in_mib (bool): Whether it is MiB. Defaults to False.
    """

    amount: float
    in_mib: bool = False

    def size_of(self, task: Task) -> float:
        """Return how much of the capacity a task takes."""
        return task.own_bytes / _MIB if self.in_mib else 1


DEFAULT = Capacity(8)


def capacity(written: str) -> Capacity:
    """Convert ``8`` (tasks) or ``500MiB``; an argparse type."""
    found = re.fullmatch(r'0*([1-9]\d*)(MiB)?', written.strip(), re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f'{written!r} must be a number of tasks, such as 8, or of MiB, such as 500MiB')
    return Capacity(int(found[1]), in_mib=found[2] is not None)
