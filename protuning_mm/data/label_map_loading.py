"""Loading label maps and masks with errors that name the file: unreadable, or not matching the image or the classes.

:func:`protuning_mm.patches.patch_label_loading` installs these wrappers in mmseg and mmdet.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from protuning_mm.data.errors import DataError, first_line

_HIGHEST = 255  # the highest label of 8 bits; ignored unless the data set says otherwise


def add_label_settings(get_data_info: Callable[..., dict[str, Any]], dataset: Any, idx: int) -> dict[str, Any]:
    """Call mmseg's ``BaseSegDataset.get_data_info``; add what :func:`check_mmseg_maps` needs to check labels."""
    results = get_data_info(dataset, idx)
    classes = len(dataset.metainfo.get('classes') or ())
    return results | dict(num_classes=classes, ignored=dataset.ignore_index, test_mode=dataset.test_mode)


def check_mmseg_maps(load: Callable[..., Any], transform: Any, results: dict[str, Any]) -> None:
    """Call mmseg's ``LoadAnnotations._load_seg_map``; check that a label map fits its image and the classes.

    mmseg silently takes the low byte of a 16-bit map. A label beyond the classes fails in torch, whose error names no
    file.
    """
    _load(load, transform, results)
    _check_shape(results)
    if transform.backend_args is None and '://' not in results['seg_map_path']:
        _check_depth(results['seg_map_path'])
    _check_labels(results)


def check_mmdet_maps(load: Callable[..., Any], transform: Any, results: dict[str, Any]) -> None:
    """Call mmdet's ``LoadAnnotations._load_seg_map``; check that a stuff map has the shape of its image."""
    _load(load, transform, results)
    if results.get('gt_seg_map') is not None:
        _check_shape(results)


def name_unreadable_masks(load: Callable[..., Any], transform: Any, results: dict[str, Any]) -> None:
    """Call mmdet's ``LoadAnnotations._load_masks``; raise a DataError that names the image."""
    try:
        load(transform, results)
    except Exception as error:
        raise DataError(
            f'the masks of {results.get("img_path")!r} cannot be read: {type(error).__name__} {first_line(error)} '
            f'Correct the segmentations of image_id {results.get("img_id")!r} in the annotations.'
        ) from error


def _load(load: Any, transform: Any, results: dict[str, Any]) -> None:
    try:
        load(transform, results)
    except Exception as error:
        found = f'{type(error).__name__} {first_line(error)}'
        raise DataError(f'{results.get("seg_map_path")!r} cannot be decoded as a label map: {found}') from error


def _check_shape(results: dict[str, Any]) -> None:
    """Compare a label map with its image; restore the shape of a map of one row or column, which mmseg squeezes."""
    labels, path = results['gt_seg_map'], results['seg_map_path']
    size = tuple(results.get('ori_shape', ()))[:2]
    if not size:
        return
    if labels.ndim < 2 and labels.size == size[0] * size[1]:
        labels = results['gt_seg_map'] = labels.reshape(size)
    if labels.ndim > 2:
        raise DataError(
            f'{path!r} has the shape {labels.shape}: a label map has one channel, whose values are indices of classes. '
            'Convert colours into indices first.'
        )
    if labels.shape != size:
        raise DataError(
            f'{path!r} has the size {labels.shape} (H, W), its image {results.get("img_path")!r} {size}: they must be '
            'equal. If an EXIF orientation turns the image, turn the map as well.'
        )


def _check_depth(path: str) -> None:
    """Refuse values that mmseg's uint8 cannot hold; of a map of 8 bits only the header is read."""
    with Image.open(path) as image:
        if image.mode in ('1', 'L', 'P'):
            return
        highest = int(np.asarray(image).max(initial=0))
    if highest > _HIGHEST:
        raise DataError(
            f'{path!r} has the value {highest}: mmseg keeps 8 bits of a label, and would read it as {highest % 256}. '
            'Write indices from 0 to 254, and 255 for ignored pixels.'
        )


def _check_labels(results: dict[str, Any]) -> None:
    classes, ignored = results.get('num_classes'), results.get('ignored', _HIGHEST)
    if not classes:
        return
    labels = np.flatnonzero(np.bincount(results['gt_seg_map'].ravel(), minlength=_HIGHEST + 1))
    unknown = [int(label) for label in labels if label >= classes and label not in (ignored, _HIGHEST)]
    if not unknown:
        return
    reduced = ' after reduce_zero_label' if results.get('reduce_zero_label') else ''
    message = (
        f'{results["seg_map_path"]!r} has the labels {", ".join(map(str, unknown[:5]))}{reduced}, but the data set has '
        f'{classes} classes: 0 to {classes - 1} are labels, {ignored} is ignored'
    )
    if results['test_mode']:  # mmseg's metrics leave such pixels out
        warnings.warn(f'{message}. These pixels are not scored.', stacklevel=2)
    else:
        raise DataError(
            f'{message}. Correct the classes of the data set or reduce_zero_label, or write 255 where a pixel belongs '
            'to no class.'
        )
