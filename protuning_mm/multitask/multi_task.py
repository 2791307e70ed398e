"""Any number of tasks on one frozen backbone."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine.config import Config
from torch import nn

from protuning_mm.engine.config import read_config
from protuning_mm.multitask.backbone_forward import BackboneForward
from protuning_mm.multitask.batch import Batch
from protuning_mm.multitask.errors import AnotherBaseError, MultiTaskError
from protuning_mm.multitask.hosts import TestPipeline, load_model
from protuning_mm.multitask.joint import JointRunner
from protuning_mm.multitask.joint.runner import Joint
from protuning_mm.multitask.request import Snapshot, features, make_batches, predictions, raw
from protuning_mm.multitask.shared_base import SharedBase, tuned_backbone_of
from protuning_mm.multitask.task import Image, Task
from protuning_mm.weights import CheckpointError


class MultiTask:
    """Any number of tasks on one frozen backbone in memory.

    Each task is a model of its host library. Tasks with the same base share its frozen tensors. A request (one call
    of :meth:`predict`, :meth:`features` or :meth:`raw`) uses the tasks that exist when it begins, so tasks can be
    added, swapped and removed during requests. All methods may be called from any thread.

    Args:
        device (str): The device of all models. Defaults to ``'cpu'``.
        several_bases (bool): Whether tasks may have different frozen tensors (different *bases*). Defaults to False.
        joint (str | bool): Whether a request for several tasks runs their frozen backbones in one pass. Images that are
            equal after preprocessing then go through the backbone once for all tasks, until the first module where a
            task changes a feature map. Models of timm are an exception: a task that changes any feature map shares no
            computation with the other tasks, not even in the modules before its first change. True: in one pass
            wherever possible. ``'auto'``: only where the joint pass runs at least 5 % fewer backbone blocks than
            separate passes do in total. False: never. Defaults to ``'auto'``.

    Raises:
        MultiTaskError: ``joint`` is not True, ``'auto'`` or False.

    Example:
        >>> multitask = MultiTask()
        >>> multitask.add('things', 'htc.py', 'htc_delta.pth')
        >>> multitask.add('stuff', 'upernet.py', 'upernet_delta.pth')
        >>> multitask.predict({'things': ['street.jpg'], 'stuff': ['street.jpg']})['stuff'][0].pred_sem_seg
    """

    def __init__(self, device: str = 'cpu', several_bases: bool = False, joint: Joint = 'auto') -> None:
        if joint not in ('auto', True, False):
            raise MultiTaskError(f"joint={joint!r}: must be 'auto', True or False")
        self.device = device
        self.several_bases = several_bases
        self.joint = joint
        self._bases: dict[str, SharedBase] = {}  # by the names of the tasks that use them
        self._changing = threading.Lock()  # held while tasks are added, swapped or removed
        self._running = threading.Lock()  # held while a backbone runs
        self._snapshot = Snapshot({})

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names."""
        return tuple(self._snapshot.tasks)

    @property
    def models(self) -> Mapping[str, nn.Module]:
        """The tasks' models by name. Do not change them: they share modules."""
        return MappingProxyType({name: task.model for name, task in self._snapshot.tasks.items()})

    def task(self, name: str) -> Task:
        """Return a task.

        Raises:
            MultiTaskError: no task has this name.
        """
        return self._snapshot.task(name)

    def add(self, name: str, config: str | Path | Config, checkpoint: str | Path) -> None:
        """Add a task. The other tasks can be used meanwhile.

        Args:
            name (str): A new name.
            config (str | Config): Its config.
            checkpoint (str): A whole checkpoint or a delta.

        Raises:
            MultiTaskError: the name is in use, the backbone is not tuned, or the task has other frozen tensors and
                ``several_bases`` is False.
            ConfigError: the config cannot be read.
            CheckpointError: the checkpoint cannot be loaded.
        """
        with self._changing:
            if name in self.tasks:
                raise MultiTaskError(
                    f'there is a task {name!r} already ({self.task(name).source}): swap it, or remove it'
                )
            self._put(name, config, checkpoint)

    def swap(self, name: str, config: str | Path | Config, checkpoint: str | Path) -> None:
        """Replace a task. The old task stays in use until the new one is loaded. If loading fails, it stays.

        Args:
            name (str): Name of the task.
            config (str | Config): The new config.
            checkpoint (str): The new checkpoint or delta.

        Raises:
            MultiTaskError: no task has this name, the backbone is not tuned, or the task has other frozen tensors and
                ``several_bases`` is False.
            ConfigError: the config cannot be read.
            CheckpointError: the checkpoint cannot be loaded.
        """
        with self._changing:
            self.task(name)
            self._put(name, config, checkpoint)

    def remove(self, name: str) -> None:
        """Remove a task. Requests that have begun still use it.

        Raises:
            MultiTaskError: no task has this name.
        """
        with self._changing:
            self.task(name)
            del self._bases[name]
            self._set_tasks({other: task for other, task in self._snapshot.tasks.items() if other != name})

    def predict(self, images: Mapping[str, Image | Sequence[Image]]) -> dict[str, list[Any]]:
        """Predict with several tasks.

        Args:
            images (Mapping): Task -> images: paths, or arrays (H, W, 3) in BGR as ``mmcv.imread`` returns them.

        Returns:
            dict: Task -> the host's data samples, one for each image.

        Raises:
            MultiTaskError: a task does not exist.
            DataError: an image cannot be read.
        """
        return self._answer(images, predictions)

    def features(self, images: Mapping[str, Image | Sequence[Image]]) -> dict[str, list[Any]]:
        """Return what each task's tuned backbone returns.

        Args:
            images (Mapping): As in :meth:`predict`. The errors are the same, too.

        Returns:
            dict: Task -> for each image the backbone's outputs, in a batch of one.
        """
        return self._answer(images, features)

    def raw(self, images: Mapping[str, Image | Sequence[Image]]) -> dict[str, list[Any]]:
        """Return the raw outputs of each task's heads, as in mmengine's mode ``tensor``.

        Args:
            images (Mapping): As in :meth:`predict`. The errors are the same, too.

        Returns:
            dict: Task -> one entry for each batch. The task's images of one shape form a batch.
        """
        return self._answer(images, raw)

    def _answer(
        self, images: Mapping[str, Image | Sequence[Image]], answer: Callable[[list[Batch]], list[Any]]
    ) -> dict[str, list[Any]]:
        return {name: answer(batches) for name, batches in make_batches(self._snapshot, images).items()}

    def _put(self, name: str, config: str | Path | Config, checkpoint: str | Path) -> None:
        cfg = config if isinstance(config, Config) else read_config(config)
        if '://' not in str(checkpoint) and not Path(checkpoint).is_file():
            raise CheckpointError(f'task {name!r}: checkpoint {str(checkpoint)!r} does not exist')
        pipeline = TestPipeline(cfg)

        def copy_shared_values(model: nn.Module) -> None:
            backbone = tuned_backbone_of(name, model)
            for base in dict.fromkeys(self._bases.values()):
                base.copy_values_to(backbone)

        model, meta = load_model(cfg, str(checkpoint), self.device, copy_shared_values)
        backbone = tuned_backbone_of(name, model)
        base = self._find_base(name, str(checkpoint), backbone)
        base.share_with(backbone)
        BackboneForward(backbone, self._running)
        self._bases[name] = base
        self._set_tasks({**self._snapshot.tasks, name: Task(name, model, meta, pipeline, str(checkpoint))})

    def _find_base(self, name: str, source: str, backbone: Any) -> SharedBase:
        bases = list(dict.fromkeys(self._bases.values()))
        differences = [base.find_difference(backbone) for base in bases]
        if None in differences:
            return bases[differences.index(None)]
        if bases and not self.several_bases:
            raise AnotherBaseError(
                f'task {name!r} ({source}) has other frozen tensors than the tasks before it ({bases[0].source}): '
                f'{differences[0]}. MultiTask(several_bases=True) allows different ones.',
                str(differences[0]),
            )
        return SharedBase(source)

    def _set_tasks(self, tasks: dict[str, Task]) -> None:
        joint = None
        if self.joint and len(tasks) > 1:
            groups: dict[SharedBase, dict[str, Task]] = {}
            for name, task in tasks.items():
                groups.setdefault(self._bases[name], {})[name] = task
            joint = JointRunner(groups.values(), self.joint != 'auto', self._running, self._snapshot.joint)
        self._snapshot = Snapshot(tasks, joint)
