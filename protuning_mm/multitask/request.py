"""A request through several tasks."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protuning_mm.multitask.errors import MultiTaskError
from protuning_mm.multitask.rows import take
from protuning_mm.multitask.task import Image, Prepared, Task
from protuning_mm.multitask.trunk import Trunk


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The tasks at one moment. It never changes.

    Args:
        tasks (Mapping): The tasks by name.
        trunks (Mapping): Task -> what it runs jointly through, where it does.
        running (Lock): Taken by whoever runs a backbone.
        keep_folded (bool): Whether folded weights stay after a pass.
    """

    tasks: Mapping[str, Task]
    trunks: Mapping[str, Trunk]
    running: threading.Lock
    keep_folded: bool

    def task(self, name: str) -> Task:
        """A task.

        Raises:
            MultiTaskError: there is none of this name.
        """
        if name not in self.tasks:
            known = ', '.join(map(repr, self.tasks)) or 'none'
            raise MultiTaskError(f'there is no task {name!r}; tasks are: {known}')
        return self.tasks[name]


class _Batch:
    """A task's images of one shape."""

    def __init__(self, task: Task, places: list[int], prepared: Sequence[Prepared]) -> None:
        self.task = task
        self.places = places
        self.samples = [prepared[i].sample for i in places]
        self.x = torch.cat([prepared[i].inputs for i in places])  # (N, 3, H, W)
        self.features: Any = None


class Request:
    """Images for tasks: pre-processed, and through the frozen network together where that can be.

    Args:
        snapshot (Snapshot): The tasks.
        images (Mapping): Task -> its image or images.

    Raises:
        MultiTaskError: there is no such task.
        DataError: an image cannot be read.
    """

    def __init__(self, snapshot: Snapshot, images: Mapping[str, Image | Sequence[Image]]) -> None:
        self.snapshot = snapshot
        tasks = {name: snapshot.task(name) for name in images}
        self.batches: dict[str, list[_Batch]] = {}
        for name, task in tasks.items():
            prepared = [task.prepare(image) for image in _listed(images[name])]
            places: dict[Any, list[int]] = defaultdict(list)
            for i, one in enumerate(prepared):
                places[one.inputs.shape].append(i)
            self.batches[name] = [_Batch(task, group, prepared) for group in places.values()]
        for trunk, group in self._joint():
            self._run_jointly(trunk, group)

    def predictions(self) -> dict[str, list[Any]]:
        """Each task's data samples, in the order of its images."""
        found: dict[str, list[Any]] = {}
        for name, batches in self.batches.items():
            samples: dict[int, Any] = {}
            for batch in batches:
                samples |= dict(zip(batch.places, self._head(batch, 'predict')))
            found[name] = [samples[i] for i in sorted(samples)]
        return found

    def raw(self) -> dict[str, list[Any]]:
        """Each task's raw head outputs, batch by batch."""
        return {name: [self._head(batch, 'tensor') for batch in batches] for name, batches in self.batches.items()}

    def features(self) -> dict[str, list[Any]]:
        """Each task's features, image by image."""
        found: dict[str, list[Any]] = {}
        for name, batches in self.batches.items():
            outs = {}
            for batch in batches:
                if batch.features is None:
                    with torch.no_grad():
                        batch.features = batch.task.backbone(batch.x)
                for k, i in enumerate(batch.places):
                    outs[i] = _image(batch.features, k, len(batch.places))
            found[name] = [outs[i] for i in sorted(outs)]
        return found

    def _head(self, batch: _Batch, mode: str) -> Any:
        return batch.task.run_head(batch.x, batch.samples, mode, batch.features)

    def _joint(self) -> Iterator[tuple[Trunk, list[_Batch]]]:
        """Batches of several tasks that can run together."""
        groups: dict[Any, list[_Batch]] = defaultdict(list)
        for name, batches in self.batches.items():
            for batch in batches:
                if name in self.snapshot.trunks:
                    x = batch.x
                    groups[self.snapshot.trunks[name], x.shape[1:], x.dtype].append(batch)
        for (trunk, *_), group in groups.items():
            # one alone goes through its own network, bit for bit; that would keep folded weights of its own
            if len(group) > 1 or self.snapshot.keep_folded:
                yield trunk, group

    def _run_jointly(self, trunk: Trunk, group: list[_Batch]) -> None:
        distinct: list[Tensor] = []
        rows: dict[str, list[int]] = {}
        # tasks that never act come first: their rows then need no copy
        for batch in sorted(group, key=lambda batch: trunk.acts(batch.task.name)):
            rows[batch.task.name] = [_find(distinct, image) for image in batch.x.split(1)]
        wanted = {name: list(dict.fromkeys(found)) for name, found in rows.items()}
        with self.snapshot.running, torch.no_grad():
            outs = trunk(torch.cat(distinct), wanted)
            if not self.snapshot.keep_folded:
                trunk.forget_folded()
        for batch in group:
            own = wanted[batch.task.name]
            again = [own.index(row) for row in rows[batch.task.name]]  # an image may be there twice
            batch.features = _rows(outs[batch.task.name], again, len(own))


def _listed(images: Image | Sequence[Image]) -> list[Image]:
    return [images] if isinstance(images, str | np.ndarray) else list(images)


def _find(distinct: list[Tensor], image: Tensor) -> int:
    """The place of an image among the distinct ones, where it is put if it is new."""
    for i, other in enumerate(distinct):
        if torch.equal(other, image):
            return i
    distinct.append(image)
    return len(distinct) - 1


def _image(outs: Any, k: int, number: int) -> Any:
    return _rows(outs, [k], number)


def _rows(outs: Any, rows: Sequence[int], number: int) -> Any:
    if isinstance(outs, Tensor):
        return take(outs, rows, number)
    return type(outs)(_rows(out, rows, number) for out in outs)
