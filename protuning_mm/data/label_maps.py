"""A label map or a mask that does not fit its image or the classes is named, wherever in the data set it is."""

import warnings
from functools import wraps
from typing import Any

import numpy as np
from PIL import Image

from protuning_mm.data.errors import DataError

_HIGHEST = 255  # of a label; ignored unless the data set says otherwise


def patch_label_loading(scope: str) -> None:
    """Make a host's ``LoadAnnotations`` say which label map or mask is wrong, and how.

    mmseg takes the low byte of a 16-bit map without a word, and a label beyond the classes ends in torch, which names
    no file.

    Args:
        scope (str): The config's default scope; other hosts than mmseg and mmdet have no label maps.
    """
    if scope == 'mmseg':
        _mend_mmseg()
    elif scope == 'mmdet':
        _mend_mmdet()


def _mend_mmseg() -> None:
    from mmseg.datasets import BaseSegDataset
    from mmseg.datasets.transforms import LoadAnnotations

    load, info = LoadAnnotations._load_seg_map, BaseSegDataset.get_data_info
    if hasattr(load, '__wrapped__'):
        return

    @wraps(info)
    def get_data_info(self: Any, idx: int) -> dict[str, Any]:
        results = info(self, idx)
        classes = len(self.metainfo.get('classes') or ())
        return results | dict(num_classes=classes, ignored=self.ignore_index, test_mode=self.test_mode)

    @wraps(load)
    def load_seg_map(self: Any, results: dict[str, Any]) -> None:
        _load(load, self, results)
        _check_form(results)
        if self.backend_args is None and '://' not in results['seg_map_path']:
            _check_depth(results['seg_map_path'])
        _check_labels(results)

    BaseSegDataset.get_data_info = get_data_info
    LoadAnnotations._load_seg_map = load_seg_map


def _mend_mmdet() -> None:
    from mmdet.datasets.transforms import LoadAnnotations

    load, masks = LoadAnnotations._load_seg_map, LoadAnnotations._load_masks
    if hasattr(load, '__wrapped__'):
        return

    @wraps(load)
    def load_seg_map(self: Any, results: dict[str, Any]) -> None:
        _load(load, self, results)
        if results.get('gt_seg_map') is not None:
            _check_form(results)

    @wraps(masks)
    def load_masks(self: Any, results: dict[str, Any]) -> None:
        try:
            masks(self, results)
        except Exception as error:
            first = (str(error).splitlines() or [''])[0]
            raise DataError(
                f'the masks of {results.get("img_path")!r} cannot be read: {type(error).__name__} {first} Mend the '
                f'segmentations of image_id {results.get("img_id")!r} in the annotations.'
            ) from error

    LoadAnnotations._load_seg_map = load_seg_map
    LoadAnnotations._load_masks = load_masks


def _load(load: Any, transform: Any, results: dict[str, Any]) -> None:
    try:
        load(transform, results)
    except Exception as error:
        first = (str(error).splitlines() or [''])[0]
        raise DataError(
            f'{results.get("seg_map_path")!r} cannot be decoded as a label map: {type(error).__name__} {first}'
        ) from error


def _check_form(results: dict[str, Any]) -> None:
    """Compare a map with its image; one of a single row or column, which the hosts squeeze, gets its shape back."""
    labels, path = results['gt_seg_map'], results['seg_map_path']
    size = tuple(results.get('ori_shape', ()))[:2]
    if not size:
        return
    if labels.ndim < 2 and labels.size == size[0] * size[1]:
        labels = results['gt_seg_map'] = labels.reshape(size)
    if labels.ndim > 2:
        raise DataError(
            f'{path!r} has the shape {labels.shape}: a label map has one channel, whose values are indices of classes. '
            'Turn colours into indices first.'
        )
    if labels.shape != size:
        raise DataError(
            f'{path!r} has the size {labels.shape} (H, W), its image {results.get("img_path")!r} {size}: they must be '
            'equal. An image that its EXIF orientation turns needs a map that is turned.'
        )


def _check_depth(path: str) -> None:
    """Refuse values that mmseg's uint8 cannot hold; of a map of 8 bits only the header is read."""
    with Image.open(path) as image:
        if image.mode in ('1', 'L', 'P'):
            return
        highest = int(np.asarray(image).max(initial=0))
    if highest > _HIGHEST:
        raise DataError(
            f'{path!r} has the value {highest}: mmseg keeps 8 bits of a label, and would take it for {highest % 256}. '
            'Write indices from 0 to 254, and 255 for what is ignored.'
        )


def _check_labels(results: dict[str, Any]) -> None:
    classes, ignored = results.get('num_classes'), results.get('ignored', _HIGHEST)
    if not classes:
        return
    there = np.flatnonzero(np.bincount(results['gt_seg_map'].ravel(), minlength=_HIGHEST + 1))
    unknown = [int(label) for label in there if label >= classes and label not in (ignored, _HIGHEST)]
    if not unknown:
        return
    reduced = ' after reduce_zero_label' if results.get('reduce_zero_label') else ''
    said = (
        f'{results["seg_map_path"]!r} has the labels {", ".join(map(str, unknown[:5]))}{reduced}, but the data set has '
        f'{classes} classes: 0 to {classes - 1} are labels, {ignored} is ignored'
    )
    if results['test_mode']:  # mmseg's metrics leave such pixels out
        warnings.warn(f'{said}. These pixels are not scored.', stacklevel=2)
    else:
        raise DataError(
            f'{said}. Mend the classes of the data set or reduce_zero_label, or write 255 where a pixel is of no class.'
        )
