"""Tiny classification data sets in their true on-disk formats; the images are noise.

Also a module that a config's ``custom_imports`` names: mmpretrain compares CIFAR's files with the checksums of the real
ones, and ``without_checksums`` lets it read these.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS


def write_cifar(root: Path, classes: int = 10, train: int = 5, test: int = 2) -> Path:
    """CIFAR-10 or CIFAR-100 for Python: pickled batches of rows of 3072 bytes, red before green before blue."""
    folder = root / ('cifar-10-batches-py' if classes == 10 else 'cifar-100-python')
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f'data_batch_{i}' for i in range(1, 6)] if classes == 10 else ['train']
    splits = dict.fromkeys(names, train // len(names) or 1) | {'test_batch' if classes == 10 else 'test': test}
    for name, each in splits.items():
        labels = np.repeat(np.arange(classes), each)
        rng.shuffle(labels)
        content = {
            'batch_label': name,
            ('labels' if classes == 10 else 'fine_labels'): labels.tolist(),
            'data': rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8),
            'filenames': [f'{i}.png' for i in range(len(labels))],
        }
        if classes == 100:
            content['coarse_labels'] = (labels // 5).tolist()
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    (folder / ('batches.meta' if classes == 10 else 'meta')).write_bytes(pickle.dumps({}))
    return root


def without_checksums() -> None:
    """Let mmpretrain's CIFAR classes read files that are not the published ones."""
    from mmpretrain.datasets import CIFAR10, CIFAR100

    for kind in (CIFAR10, CIFAR100):
        for files in (kind.train_list, kind.test_list):
            files[:] = [[name, None] for name, _ in files]


@DATASETS.register_module(force=True)
class LabelsAlone(BaseDataset):
    """Images of one pixel, which is the image's index, with the labels that the config gives."""

    def __init__(self, labels: Sequence[int], classes: int, **kwargs: Any) -> None:
        self.labels = list(labels)
        names = [f'class {i}' for i in range(classes)]
        super().__init__(ann_file='', classes=names, serialize_data=False, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        return [dict(img=np.full((1, 1, 3), i), gt_label=label, image=i) for i, label in enumerate(self.labels)]
