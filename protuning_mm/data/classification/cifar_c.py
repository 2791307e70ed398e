"""CIFAR-10-C and CIFAR-100-C: the test sets, corrupted."""

import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from mmpretrain.datasets import CIFAR10, CIFAR100, BaseDataset
from mmpretrain.registry import DATASETS as HOST_DATASETS
from numpy.typing import NDArray

from protuning_mm.data.corruptions import CORRUPTIONS, GENERATED_MARK, SEVERITIES, check_corruption, corrupt_image
from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS

LABELS = 'labels.npy'


@DATASETS.register_module()
class CIFAR10C(BaseDataset):
    """CIFAR-10-C, of `ImageNet-C's authors <https://arxiv.org/abs/1903.12261>`_ (Hendrycks and Dietterich, ICLR 2019).

    There is one file per corruption, with the images of the five severities in order. The data set contains every test
    image in every corruption and severity: 750,000 images. Files are memory-mapped. If there are no files, the clean
    test set is corrupted while it is loaded, as by :class:`~protuning_mm.data.corruptions.Corrupt`, whose strengths are
    those of ImageNet-C and higher than CIFAR-10-C's. The log then says so, and every sample has ``generated=True``.

    Args:
        data_root (str): The folder with ``gaussian_noise.npy``, … and ``labels.npy``.
        clean (dict, optional): Config of the clean test set, used if ``data_root`` has no files. Defaults to None.
        corruptions (Sequence[str]): Names of the corruptions. Defaults to all 15.
        severities (Sequence[int]): The severities. Defaults to 1 to 5.
        seed (int): Seed of generated images. Defaults to 0.
        **kwargs: Arguments of mmpretrain's ``BaseDataset``.

    Raises:
        DataError: only some of the files exist, a file has the wrong shape, or no file exists and no clean test set
            is given.
    """

    METAINFO = CIFAR10.METAINFO

    def __init__(
        self,
        data_root: str,
        clean: dict[str, Any] | None = None,
        corruptions: Any = CORRUPTIONS,
        severities: Any = SEVERITIES,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        for corruption in corruptions:
            for severity in severities:
                check_corruption(corruption, severity)
        self.clean, self.corruptions, self.severities, self.seed = clean, corruptions, severities, seed
        self._files: dict[str, NDArray[np.uint8]] = {}
        self._clean: Any = None
        super().__init__(ann_file='', data_root=data_root, **{'test_mode': True} | kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        root = Path(self.data_root)
        missing = [name for name in (LABELS, *(f'{c}.npy' for c in self.corruptions)) if not (root / name).is_file()]
        self.generated = bool(missing) or (root / GENERATED_MARK).is_file()
        if not missing:
            labels = np.load(root / LABELS)[: len(np.load(root / LABELS)) // len(SEVERITIES)]
        elif self.clean is None or any((root / f'{c}.npy').is_file() for c in CORRUPTIONS):
            raise DataError(
                f'{type(self).__name__}: data_root={self.data_root!r} lacks {", ".join(missing)}. Unpack the whole '
                'archive there, or list the existing ones in corruptions=[…].'
            )
        else:
            self._clean = HOST_DATASETS.build(deepcopy(dict(self.clean, pipeline=[])))
            labels = self._clean.get_gt_labels()
        if self.generated:
            print_log(
                f'{type(self).__name__}: the corrupted images are not the published ones, because {self.data_root!r} '
                "does not have them. imagecorruptions generates them from the clean test set, with ImageNet-C's "
                'strengths. Compare accuracies on them only with each other, not with published results.',
                'current',
                logging.WARNING,
            )
        return [
            dict(corruption=corruption, severity=severity, image=i, gt_label=int(label), generated=self.generated)
            for corruption in self.corruptions
            for severity in self.severities
            for i, label in enumerate(labels)
        ]

    def prepare_data(self, idx: int) -> Any:
        return self.pipeline(self.get_info_with_image(idx))

    def get_info_with_image(self, idx: int) -> dict[str, Any]:
        """Return the data info of an image with the image itself, which ``get_data_info`` does not load."""
        info = self.get_data_info(idx)
        corruption, severity, i = info['corruption'], info['severity'], info['image']
        if self._clean is not None:
            image = self._clean.get_data_info(i)['img']
            return info | dict(img=corrupt_image(image, corruption, severity, (self.seed, i)))
        images = self._map_file(corruption)
        return info | dict(img=np.array(images[(severity - 1) * (len(images) // len(SEVERITIES)) + i]))

    @property
    def source_files(self) -> list[Path]:
        """The files with the images and labels, which no data info names."""
        return [Path(self.data_root) / name for name in (LABELS, *(f'{each}.npy' for each in self.corruptions))]

    def _map_file(self, corruption: str) -> NDArray[np.uint8]:
        if corruption not in self._files:  # each worker maps a file when it first needs it
            path = Path(self.data_root) / f'{corruption}.npy'
            images = np.load(path, mmap_mode='r')
            expected = (len(np.load(path.with_name(LABELS), mmap_mode='r')), 32, 32, 3)
            if images.shape != expected or images.dtype != np.uint8:
                raise DataError(f'{path}: shape {images.shape}, {images.dtype}; expected {expected}, uint8')
            self._files[corruption] = images
        return self._files[corruption]


@DATASETS.register_module()
class CIFAR100C(CIFAR10C):
    """CIFAR-100-C; everything else is as in :class:`CIFAR10C`."""

    METAINFO = CIFAR100.METAINFO
