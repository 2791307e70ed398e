"""The front: tasks by name, and a request through all of them."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine.config import Config
from torch import nn

from protuning_mm.engine.config import read_config
from protuning_mm.multitask.base import ResidentBase, check_tuned
from protuning_mm.multitask.errors import MultiTaskError
from protuning_mm.multitask.hosts import TestPipeline, load_model
from protuning_mm.multitask.request import Request, Snapshot
from protuning_mm.multitask.served import Serving
from protuning_mm.multitask.task import Image, Task
from protuning_mm.multitask.trunk import Trunk
from protuning_mm.weights import CheckpointError


class MultiTask:
    """One resident frozen backbone, and any number of tasks on it.

    Each task is its host's own model; the frozen tensors of all are the same objects. Images that the tasks' pipelines
    bring to the same shape go through the frozen network in one batch. Tasks may be added, removed and swapped while
    others serve: a request sees the tasks as they were when it began. All methods may be called from any thread.

    Args:
        device (str): Where everything lives. Defaults to ``'cpu'``.
        several_bases (bool): Whether a task of another base is taken in, with a base of its own. Defaults to False.
        keep_folded (bool): Whether batch norms stay folded into convolutions between requests: faster, and one more
            copy of the base. Defaults to False.

    Example:
        >>> multitask = MultiTask()
        >>> multitask.add('things', 'htc.py', 'htc_delta.pth')
        >>> multitask.add('stuff', 'upernet.py', 'upernet_delta.pth')
        >>> multitask.predict({'things': ['street.jpg'], 'stuff': ['street.jpg']})['stuff'][0].pred_sem_seg
    """

    def __init__(self, device: str = 'cpu', several_bases: bool = False, keep_folded: bool = False) -> None:
        self.device = device
        self.several_bases = several_bases
        self.keep_folded = keep_folded
        self._bases: list[ResidentBase] = []
        self._changing = threading.Lock()
        self._running = threading.Lock()
        self._snapshot = Snapshot({}, {}, self._running, keep_folded)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names."""
        return tuple(self._snapshot.tasks)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The tasks' models, by name: to look at, and not to be changed."""
        return MappingProxyType({name: task.model for name, task in self._snapshot.tasks.items()})

    def task(self, name: str) -> Task:
        """A task.

        Raises:
            MultiTaskError: there is none of this name.
        """
        return self._snapshot.task(name)

    def add(self, name: str, config: str | Path | Config, checkpoint: str | Path) -> None:
        """Take a task in. The others go on serving.

        Args:
            name (str): A new name.
            config (str | Config): Its config.
            checkpoint (str): A whole checkpoint, or a delta.

        Raises:
            MultiTaskError: the name is taken, the backbone is not tuned, or its base is another.
            ConfigError: the config cannot be read.
            CheckpointError: the checkpoint cannot be loaded.
        """
        with self._changing:
            if name in self.tasks:
                raise MultiTaskError(
                    f'there is a task {name!r} already ({self.task(name).source}): swap it, or remove it'
                )
            self._set({**self._snapshot.tasks, name: self._load(name, config, checkpoint)})

    def swap(self, name: str, config: str | Path | Config, checkpoint: str | Path) -> None:
        """Put another in a task's place; the old one serves until the new one is ready.

        Raises:
            MultiTaskError: there is none of this name; the backbone is not tuned, or its base is another.
            CheckpointError: the checkpoint cannot be loaded. The old one stays.
        """
        with self._changing:
            self.task(name)
            self._set({**self._snapshot.tasks, name: self._load(name, config, checkpoint)})

    def remove(self, name: str) -> None:
        """Take a task out. Requests on their way finish with it.

        Raises:
            MultiTaskError: there is none of this name.
        """
        with self._changing:
            self.task(name)
            self._set({other: task for other, task in self._snapshot.tasks.items() if other != name})

    def predict(self, images: Mapping[str, Image | Sequence[Image]]) -> dict[str, list[Any]]:
        """Predict with several tasks at once.

        Args:
            images (Mapping): Task -> images: paths, or arrays as ``mmcv.imread`` makes them (H, W, BGR).

        Returns:
            dict: Task -> its host's own data samples, one for each image.

        Raises:
            MultiTaskError: there is no such task.
            DataError: an image cannot be read.
        """
        return self._request(images).predictions()

    def features(self, images: Mapping[str, Image | Sequence[Image]]) -> dict[str, list[Any]]:
        """What each task's tuned backbone returns, as :meth:`predict` uses it.

        Returns:
            dict: Task -> for each image the backbone's outputs, in a batch of one.
        """
        return self._request(images).features()

    def raw(self, images: Mapping[str, Image | Sequence[Image]]) -> dict[str, list[Any]]:
        """What each task's heads return before anything is chosen from it (mmengine's mode ``tensor``).

        Returns:
            dict: Task -> one entry for each of its batches, which are of images of one shape, in their order.
        """
        return self._request(images).raw()

    def _request(self, images: Mapping[str, Image | Sequence[Image]]) -> Request:
        return Request(self._snapshot, images)

    def _load(self, name: str, config: str | Path | Config, checkpoint: str | Path) -> Task:
        cfg = _read(config)
        if '://' not in str(checkpoint) and not Path(checkpoint).is_file():
            raise CheckpointError(f'task {name!r}: checkpoint {str(checkpoint)!r} does not exist')
        pipeline = TestPipeline(cfg)

        def prime(model: nn.Module) -> None:
            backbone = check_tuned(name, model)
            for base in self._bases:
                base.prime(backbone)

        model, meta = load_model(cfg, str(checkpoint), self.device, prime)
        backbone = check_tuned(name, model)
        self._base_for(name, str(checkpoint), backbone).share(backbone)
        Serving(backbone, self._running, self.keep_folded)
        return Task(name, model, meta, pipeline, str(checkpoint))

    def _base_for(self, name: str, source: str, backbone: Any) -> ResidentBase:
        self._bases = [base for base in self._bases if base.tensors]
        misfits = [base.misfit(backbone) for base in self._bases]
        fitting = [base for base, misfit in zip(self._bases, misfits) if misfit is None]
        if not fitting:
            if misfits and not self.several_bases:
                raise MultiTaskError(
                    f'task {name!r} ({source}) has another base than the resident one ({self._bases[0].source}): '
                    f'{misfits[0]}. MultiTask(several_bases=True) gives it a base of its own.'
                )
            fitting = [ResidentBase(source)]
            self._bases += fitting
        return fitting[0]

    def _set(self, tasks: dict[str, Task]) -> None:
        families: dict[Any, dict[str, Task]] = {}
        for name, task in tasks.items():
            if task.family is not None:
                base = next(i for i, base in enumerate(self._bases) if base.holds(task.backbone))
                families.setdefault((base, task.family), {})[name] = task
        old = {trunk.members: trunk for trunk in self._snapshot.trunks.values()}
        trunks: dict[str, Trunk] = {}
        for members in families.values():
            if len(members) > 1:
                backbones = {name: task.backbone for name, task in members.items()}
                trunk = old.get(frozenset(backbones.items())) or Trunk(backbones)
                trunks |= dict.fromkeys(members, trunk)
        self._snapshot = Snapshot(tasks, trunks, self._running, self.keep_folded)


def _read(config: str | Path | Config) -> Config:
    return config if isinstance(config, Config) else read_config(config)
