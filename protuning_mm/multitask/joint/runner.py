"""Which batches of a request run through the frozen network together, and their joint pass."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from protuning_mm.backbones import TunedBackbone
from protuning_mm.multitask.batch import Batch, select_images
from protuning_mm.multitask.joint.architecture import architecture_key
from protuning_mm.multitask.joint.joint_network import JointNetwork
from protuning_mm.multitask.joint.tuning_hooks import can_run_jointly, count_unchanged_blocks
from protuning_mm.multitask.task import Task

Joint = Literal['auto', True, False]

# 'auto' runs batches jointly if that saves at least this share of the block runs. A joint pass that saves nothing was
# measured at 0.8 to 1.2 times the speed of separate passes, one that saves 9 % at 1.1 times (docs/multitask.md).
MIN_SAVED_SHARE = 0.05


class JointRunner:
    """Runs batches of several tasks in one pass where that pays, and leaves the other batches as they are.

    Args:
        groups (Iterable): Tasks by name, in groups that share a base. Tasks of one group run jointly if their frozen
            networks have the same architecture.
        always (bool): Whether to run jointly whatever can be, instead of only what saves :data:`MIN_SAVED_SHARE`.
        lock (Lock): Held while a backbone runs.
        previous (JointRunner, optional): The runner before the last change of tasks. Its networks are used again for
            groups that did not change.
    """

    def __init__(
        self,
        groups: Iterable[Mapping[str, Task]],
        always: bool,
        lock: threading.Lock,
        previous: 'JointRunner | None' = None,
    ) -> None:
        self.always = always
        self.lock = lock
        self.groups: dict[str, dict[str, TunedBackbone]] = {}  # task -> the backbones that it can run with
        for tasks in groups:
            of_architecture: dict[Any, dict[str, TunedBackbone]] = defaultdict(dict)
            for name, task in tasks.items():
                if can_run_jointly(task.backbone):
                    of_architecture[architecture_key(task.backbone)][name] = task.backbone
            for group in of_architecture.values():
                self.groups |= dict.fromkeys(group, group)
        self.unchanged_blocks = {name: count_unchanged_blocks(group[name]) for name, group in self.groups.items()}
        old = {} if previous is None else previous.networks
        # Requests build networks when they first need them, so `old` may grow meanwhile: do not iterate over it.
        keys = {_key(group) for group in self.groups.values()}
        self.networks: dict[Any, JointNetwork] = {key: old[key] for key in keys if key in old}

    def run(self, batches: Sequence[Batch]) -> None:
        """Set the features of the batches that run jointly."""
        together: dict[Any, list[Batch]] = defaultdict(list)
        for batch in batches:
            group = self.groups.get(batch.task.name)
            if group is not None:
                together[_key(group), batch.x.shape[1:], batch.x.dtype].append(batch)
        for found in together.values():
            if len(found) > 1:
                self._run_together(found)

    def _run_together(self, batches: Sequence[Batch]) -> None:
        distinct: list[Tensor] = []
        images = {batch.task.name: [_find_or_add(distinct, image) for image in batch.x.split(1)] for batch in batches}
        group = self.groups[batches[0].task.name]
        blocks = len(group[batches[0].task.name].structure.blocks)
        unchanged = {name: self.unchanged_blocks[name] for name in images}
        if not self.always and saved_share(images, unchanged, blocks) < MIN_SAVED_SHARE:
            return
        # tasks that change no feature map come first: their rows need no copy when the batch is split
        names = sorted(images, key=lambda name: unchanged[name] is not None)
        wanted = {name: list(dict.fromkeys(images[name])) for name in names}
        with self.lock, torch.no_grad():
            if _key(group) not in self.networks:
                self.networks[_key(group)] = JointNetwork(group)
            outs = self.networks[_key(group)](torch.cat(distinct), wanted)
        for batch in batches:
            name = batch.task.name
            repeated = [wanted[name].index(i) for i in images[name]]  # a task may ask about an image twice
            same = repeated == list(range(len(repeated)))
            batch.features = outs[name] if same else select_images(outs[name], repeated)


def saved_share(images: Mapping[str, Sequence[int]], unchanged_blocks: Mapping[str, int | None], blocks: int) -> float:
    """Return the share of block runs that a joint pass saves, compared with one pass for each task.

    A block run is one block on one image. The joint pass computes each distinct image once until a task first changes
    a feature map. After that, each task has its own rows; the tasks that change no feature map share theirs.

    Args:
        images (Mapping): Task -> indices of its images. Equal images have equal indices.
        unchanged_blocks (Mapping): Task -> how many blocks run before its tunings change a feature map; None if they
            change none.
        blocks (int): Number of blocks of the frozen network.
    """
    changing = {name: count for name in images if (count := unchanged_blocks[name]) is not None}
    split = min(changing.values(), default=blocks)
    distinct = {i for own in images.values() for i in own}
    sharing = {i for name, own in images.items() if name not in changing for i in own}
    after_split = len(sharing) + sum(len(set(images[name])) for name in changing)
    joint = split * len(distinct) + (blocks - split) * after_split
    return 1 - joint / (blocks * sum(map(len, images.values())))


def _key(group: Mapping[str, TunedBackbone]) -> frozenset[tuple[str, TunedBackbone]]:
    return frozenset(group.items())


def _find_or_add(distinct: list[Tensor], image: Tensor) -> int:
    """Return the index of an image among the distinct images, to which it is added if it is new."""
    for i, other in enumerate(distinct):
        if torch.equal(other, image):
            return i
    distinct.append(image)
    return len(distinct) - 1
