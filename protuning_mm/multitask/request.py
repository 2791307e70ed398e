"""A request: batches of images for several tasks, and a task's answers."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protuning_mm.multitask.batch import Batch
from protuning_mm.multitask.errors import MultiTaskError
from protuning_mm.multitask.joint import JointRunner
from protuning_mm.multitask.task import Image, Task


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The tasks at one moment. It never changes.

    Args:
        tasks (Mapping): The tasks by name.
        joint (JointRunner, optional): Runs batches of several tasks together. Defaults to none.
    """

    tasks: Mapping[str, Task]
    joint: JointRunner | None = None

    def task(self, name: str) -> Task:
        """Return a task.

        Raises:
            MultiTaskError: no task has this name.
        """
        if name not in self.tasks:
            known = ', '.join(map(repr, self.tasks)) or 'none'
            raise MultiTaskError(f'there is no task {name!r}; tasks are: {known}')
        return self.tasks[name]


def make_batches(snapshot: Snapshot, images: Mapping[str, Image | Sequence[Image]]) -> dict[str, list[Batch]]:
    """Preprocess images for several tasks.

    Args:
        snapshot (Snapshot): The tasks.
        images (Mapping): Task -> its image or images.

    Returns:
        dict: Task -> its batches, each of images of one shape.

    Raises:
        MultiTaskError: a task does not exist.
        DataError: an image cannot be read.
    """
    tasks = {name: snapshot.task(name) for name in images}
    found = {name: _batches_of_task(task, images[name]) for name, task in tasks.items()}
    if snapshot.joint is not None and len(tasks) > 1:
        snapshot.joint.run([batch for batches in found.values() for batch in batches])
    return found


def predictions(batches: list[Batch]) -> list[Any]:
    """Return a task's data samples, in the order of its images."""
    return _by_image(batches, lambda batch: batch.run_head('predict'))


def features(batches: list[Batch]) -> list[Any]:
    """Return a task's features, in the order of its images."""
    return _by_image(batches, Batch.split_features)


def raw(batches: list[Batch]) -> list[Any]:
    """Return a task's raw head outputs, batch by batch."""
    return [batch.run_head('tensor') for batch in batches]


def _by_image(batches: list[Batch], run: Callable[[Batch], Sequence[Any]]) -> list[Any]:
    results = {i: result for batch in batches for i, result in zip(batch.positions, run(batch))}
    return [results[i] for i in sorted(results)]


def _batches_of_task(task: Task, images: Image | Sequence[Image]) -> list[Batch]:
    listed = [images] if isinstance(images, str | np.ndarray) else list(images)
    prepared = [task.prepare(image) for image in listed]
    positions: dict[Any, list[int]] = defaultdict(list)
    for i, one in enumerate(prepared):
        positions[one.inputs.shape].append(i)
    return [Batch(task, of_shape, prepared) for of_shape in positions.values()]
