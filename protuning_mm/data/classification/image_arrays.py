"""Images in ``.npy`` files, decoded and resized once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset
from numpy.typing import NDArray

from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS

CLASSES = 'classes.json'


@DATASETS.register_module()
class ImageArrays(BaseDataset):
    """A classification data set in two files per split, which ``tools/dataset_converters/cache_images.py`` writes.

    Nothing is decoded or resized during training. The images are memory-mapped, so several processes share them.

    Args:
        data_root (str): Folder with ``<split>_images.npy`` (N, H, W, 3; uint8, RGB), ``<split>_labels.npy`` (N,) and
            ``classes.json``, a list of the classes' names.
        split (str): Defaults to ``'train'``.
        **kwargs: Arguments of mmpretrain's ``BaseDataset``.

    Raises:
        DataError: a file is missing, or the files do not fit each other.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any) -> None:
        self.split = split
        self._images: NDArray[np.uint8] | None = None
        path = Path(data_root) / CLASSES
        if not path.is_file():
            raise DataError(f'ImageArrays: {str(path)!r} does not exist: write the data set with cache_images.py')
        metainfo = dict(classes=tuple(json.loads(path.read_text())))
        super().__init__(ann_file='', data_root=data_root, metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        labels = self._load('labels')
        images = self._load('images')
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(
                f'ImageArrays: {self._path("images")} has the shape {images.shape} and the type {images.dtype}, and '
                f'its labels have the shape {labels.shape}; expected (N, H, W, 3), uint8 and (N,)'
            )
        return [dict(image=i, gt_label=int(label)) for i, label in enumerate(labels)]

    def prepare_data(self, idx: int) -> Any:
        return self.pipeline(self.get_info_with_image(idx))

    def get_info_with_image(self, idx: int) -> dict[str, Any]:
        """Return the data info of an image with the image itself, which ``get_data_info`` does not load."""
        info = self.get_data_info(idx)
        if self._images is None:  # each worker maps the file when it first needs it
            self._images = self._load('images')
        return info | dict(img=np.array(self._images[info['image']]))

    @property
    def source_files(self) -> list[Path]:
        """The files with the images and labels, which no data info names."""
        return [self._path('images'), self._path('labels')]

    def _path(self, kind: str) -> Path:
        return Path(self.data_root) / f'{self.split}_{kind}.npy'

    def _load(self, kind: str) -> NDArray[Any]:
        if not self._path(kind).is_file():
            raise DataError(f'ImageArrays: {str(self._path(kind))!r} does not exist: write it with cache_images.py')
        return np.load(self._path(kind), mmap_mode='r')
