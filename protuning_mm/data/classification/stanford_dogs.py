"""Stanford Dogs: 120 breeds; its images are part of ImageNet."""

from pathlib import Path
from typing import Any

import mat4py
from mmpretrain.datasets import BaseDataset

from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS


@DATASETS.register_module()
class StanfordDogs(BaseDataset):
    """`Stanford Dogs <http://vision.stanford.edu/aditya86/ImageNetDogs/>`_ (Khosla et al., 2011).

    Its images are part of ImageNet's training set, so a network that was pre-trained on ImageNet has seen them.

    Args:
        data_root (str): The folder with ``Images/``, ``train_list.mat`` and ``test_list.mat``.
        split (str): ``'train'`` (12,000 images) or ``'test'`` (8,580). Defaults to ``'train'``.
        **kwargs: Arguments of mmpretrain's ``BaseDataset``.

    Raises:
        DataError: the split does not exist.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        if split not in ('train', 'test'):
            raise DataError(f"StanfordDogs: split={split!r}; there are 'train' and 'test'")
        super().__init__(
            ann_file=f'{split}_list.mat',
            data_root=data_root,
            data_prefix='Images',
            **{'test_mode': split == 'test'} | kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        content = mat4py.loadmat(self.ann_file)
        # n02085620-Chihuahua/n02085620_5927.jpg; labels count from 1
        files = [_unpack(cell) for cell in content['file_list']]
        labels = [int(_unpack(cell)) - 1 for cell in content['labels']]
        names = {label: file.split('/')[0].partition('-')[2] for label, file in zip(labels, files, strict=True)}
        self._metainfo.setdefault('classes', tuple(names[label] for label in sorted(names)))
        prefix = Path(self.img_prefix)
        return [dict(img_path=str(prefix / file), gt_label=label) for file, label in zip(files, labels, strict=True)]


def _unpack(cell: Any) -> Any:
    """Take a value out of the nested lists of one element that mat4py returns for the cells of a column."""
    return _unpack(cell[0]) if isinstance(cell, list) else cell
