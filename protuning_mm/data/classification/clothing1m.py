"""Clothing1M: a million shop photographs with noisy labels from the surrounding text, and some verified labels."""

from pathlib import Path
from typing import Any

from mmpretrain.datasets import BaseDataset

from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS

SPLITS = {
    'noisy_train': ('noisy_train_key_list.txt', 'noisy_label_kv.txt'),
    'clean_train': ('clean_train_key_list.txt', 'clean_label_kv.txt'),
    'clean_val': ('clean_val_key_list.txt', 'clean_label_kv.txt'),
    'clean_test': ('clean_test_key_list.txt', 'clean_label_kv.txt'),
}


@DATASETS.register_module()
class Clothing1M(BaseDataset):
    """`Clothing1M <https://github.com/Cysu/noisy_label>`_ (Xiao et al., CVPR 2015), in the authors' layout.

    Args:
        data_root (str): The folder with ``images/``.
        split (str): ``'noisy_train'`` (1,000,000 images), ``'clean_train'`` (47,570), ``'clean_val'`` (14,313) or
            ``'clean_test'`` (10,526). Defaults to ``'noisy_train'``.
        ann_folder (str): The folder in ``data_root`` with the key lists and label files; ``''`` if they are next to
            ``images/``. Defaults to ``'annotations'``.
        **kwargs: Arguments of mmpretrain's ``BaseDataset``.

    Raises:
        DataError: the split does not exist, or a listed image has no label.
    """

    METAINFO: dict[str, Any] = {  # noqa: RUF012, mmengine's convention
        'classes': (
            'T-Shirt',
            'Shirt',
            'Knitwear',
            'Chiffon',
            'Sweater',
            'Hoodie',
            'Windbreaker',
            'Jacket',
            'Downcoat',
            'Suit',
            'Shawl',
            'Dress',
            'Vest',
            'Underwear',
        )
    }

    def __init__(
        self, data_root: str, split: str = 'noisy_train', ann_folder: str = 'annotations', **kwargs: Any
    ) -> None:
        if split not in SPLITS:
            raise DataError(f'Clothing1M: split={split!r}; there are {", ".join(SPLITS)}')
        self.split = split
        keys, self.labels_file = (str(Path(ann_folder) / name) for name in SPLITS[split])
        super().__init__(ann_file=keys, data_root=data_root, **{'test_mode': split == 'clean_test'} | kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        labels = {}
        with Path(self.data_root, self.labels_file).open() as file:
            for line in file:
                key, label = line.split()
                labels[key] = int(label)
        keys = Path(self.ann_file).read_text().split()
        unlabelled = [key for key in keys if key not in labels]
        if unlabelled:
            raise DataError(
                f'{self.ann_file}: {len(unlabelled)} of {len(keys)} images have no label in {self.labels_file}, '
                f'first {unlabelled[0]!r}'
            )
        return [dict(img_path=str(Path(self.data_root, key)), gt_label=labels[key]) for key in keys]
