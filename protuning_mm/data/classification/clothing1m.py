"""Clothing1M: a million shop photographs with noisy labels from the surrounding text, and some verified labels."""

from pathlib import Path
from typing import Any

from mmpretrain.datasets import BaseDataset

from protuning_mm.data.errors import DataError
from protuning_mm.data.published_data_sets import list_clothing1m_files
from protuning_mm.registry import DATASETS

SPLITS = ('noisy_train', 'clean_train', 'clean_val', 'clean_test')


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
        keys, self.labels_file = list_clothing1m_files(split, ann_folder)
        super().__init__(ann_file=keys, data_root=data_root, **{'test_mode': split == 'clean_test'} | kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        lines = Path(self.data_root, self.labels_file).read_text().splitlines()
        labels = dict(line.split() for line in lines)
        keys = Path(self.ann_file).read_text().split()
        unlabelled = [key for key in keys if key not in labels]
        if unlabelled:
            raise DataError(
                f'{self.ann_file}: {len(unlabelled)} of {len(keys)} images have no label in {self.labels_file}, '
                f'first {unlabelled[0]!r}'
            )
        return [dict(img_path=str(Path(self.data_root, key)), gt_label=int(labels[key])) for key in keys]
