"""Counts of objects, images or pixels per class, from a built data set of any format."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# entries that are counted before training, by unit; reading a label map takes milliseconds, the rest is in memory
SAMPLE = {'pixels': 200, 'objects': 20_000, 'images': 20_000}
_SHOWN = 12  # classes


@dataclass
class LabelCounts:
    """Objects, images or pixels of each class.

    Args:
        classes (tuple[str]): The data set's classes.
        unit (str): What is counted: ``'objects'``, ``'images'``, or ``'pixels'`` of label maps.
        size (int): Number of entries of the data set.
        counted (int): Number of entries that were counted.
        numbers (ndarray): (classes,), the count of each class.
        data_sets (list): The data sets inside wrappers.
        label_maps (list[str]): Paths of the label maps whose pixels were counted. Defaults to an empty list.
        empty_boxes (list[str]): Images with objects whose box has no area; these objects are not counted. Defaults to
            an empty list.
    """

    classes: tuple[str, ...]
    unit: str
    size: int
    counted: int
    numbers: NDArray[np.int64]
    data_sets: list[Any]
    label_maps: list[str] = field(default_factory=list)
    empty_boxes: list[str] = field(default_factory=list)

    @property
    def absent_labels(self) -> list[int]:
        """Labels that never occur."""
        return np.flatnonzero(self.numbers == 0).tolist()

    def __str__(self) -> str:
        pairs = [f'{name} {number:,}' for name, number in zip(self.classes, self.numbers)]
        if len(pairs) > _SHOWN:  # the most frequent and the rarest
            half = _SHOWN // 2
            pairs = [pairs[i] for i in np.argsort(-self.numbers, kind='stable')]
            pairs = [*pairs[:half], f'… {len(pairs) - 2 * half} more …', *pairs[-half:]]
        of = '' if self.counted == self.size else f', in {self.counted:,} of {self.size:,}'
        return f'{self.unit} per class{of}: {", ".join(pairs)}'


def count_labels(
    dataset: Any, limits: Mapping[str, int] | None = None, read: Callable[..., Any] = map
) -> LabelCounts | None:
    """Count the labels of a data set.

    Args:
        dataset: A built data set of a host library, or a wrapper of several.
        limits (Mapping[str, int], optional): For each unit, the number of evenly spread entries to count. Counting
            stops earlier if every class has occurred, and later if fewer than two have. Defaults to None: all entries.
        read (Callable): Reads label maps, as ``map`` does; may work in parallel, but must keep the order. Defaults to
            ``map``.

    Returns:
        LabelCounts, optional: None if the data set has no classes, or its entries have no labels.
    """
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if not classes:
        return None
    data_sets = unwrap_data_sets(dataset)
    unit = next((unit for unit in map(_find_unit, data_sets) if unit), None)
    sizes = [len(part) for part in data_sets]
    size: int = sum(sizes)
    if unit is None and size:
        return None
    found = LabelCounts(tuple(map(str, classes)), unit or 'objects', size, 0, np.zeros(len(classes), int), data_sets)
    limit = (limits or {}).get(found.unit)
    entries = _spread(data_sets, sizes, limit or size)
    for numbers, info in (read if found.unit == 'pixels' else map)(_count_entry, entries):
        found.counted += 1
        found.numbers += numbers[: len(classes)]
        if found.unit == 'pixels':
            found.label_maps.append(info['seg_map_path'])
        elif any(_has_empty_box(each) for each in info.get('instances', ())):
            found.empty_boxes.append(str(info.get('img_path')))
        seen = len(classes) - len(found.absent_labels)
        if limit and (seen == len(classes) or (found.counted >= limit and seen >= 2)):
            break
    return found


def unwrap_data_sets(dataset: Any) -> list[Any]:
    """Find the data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    if hasattr(dataset, 'datasets'):
        return [each for part in dataset.datasets for each in unwrap_data_sets(part)]
    return unwrap_data_sets(dataset.dataset) if hasattr(dataset, 'dataset') else [dataset]


def find_map_loader(dataset: Any) -> Any:
    """Find the transform that loads a data set's label maps; None if there is none."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return next((each for each in transforms if getattr(each, 'with_seg', False)), None)


def _find_unit(part: Any) -> str | None:
    if not hasattr(part, 'get_data_info') or not len(part):
        return None
    info = part.get_data_info(0)
    if 'instances' in info:
        return 'objects'
    if 'gt_label' in info:
        return 'images'
    return 'pixels' if info.get('seg_map_path') and find_map_loader(part) is not None else None


def _spread(data_sets: list[Any], sizes: list[int], limit: int) -> Iterator[tuple[Any, int]]:
    """Yield all entries, as data set and index, so that the first ``limit`` of them are evenly spread."""
    ends, total = np.cumsum(sizes), sum(sizes)
    step = max(total // max(limit, 1), 1)
    for first in range(step):
        for i in range(first, total, step):
            part = int(np.searchsorted(ends, i, side='right'))
            yield data_sets[part], i - int(ends[part]) + sizes[part]


def _count_entry(entry: tuple[Any, int]) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Count the labels of an entry; also return its data info."""
    part, i = entry
    info = part.get_data_info(i)
    number = len(part.metainfo['classes'])
    if 'instances' in info:
        objects = [each for each in info['instances'] if not each.get('ignore_flag') and not _has_empty_box(each)]
        labels = np.array([each.get('bbox_label', -1) for each in objects], np.int64)
    elif 'gt_label' in info:
        labels = np.atleast_1d(np.asarray(info['gt_label'], np.int64))
    else:
        labels = find_map_loader(part)(info)['gt_seg_map'].ravel().astype(np.int64)
    return np.bincount(labels[(labels >= 0) & (labels < number)], minlength=number), info


def _has_empty_box(instance: dict[str, Any]) -> bool:
    x1, y1, x2, y2 = instance.get('bbox') or (0, 0, 1, 1)
    return bool(x2 <= x1 or y2 <= y1)
