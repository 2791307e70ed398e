"""How often each class occurs in a data set, counted through the host's own data set, whatever its format is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# entries that are looked at before training; reading a label map takes milliseconds, the others lie in memory
SAMPLE = {'pixels': 200, 'objects': 20_000, 'images': 20_000}
_SHOWN = 12  # classes


@dataclass
class LabelCounts:
    """Objects, images or pixels of each class.

    Args:
        classes (tuple[str]): The data set's.
        unit (str): What is counted: ``'objects'``, ``'images'``, or ``'pixels'`` of label maps.
        size (int): Entries of the data set.
        looked_at (int): How many of them were counted.
        numbers (ndarray): One a class.
        parts (list): The data sets within wrappers.
        maps (list[str]): Of pixels: the label maps that were counted.
        flat (list[str]): Images with objects whose box has no area, which are not counted.
    """

    classes: tuple[str, ...]
    unit: str
    size: int
    looked_at: int
    numbers: NDArray[np.int64]
    parts: list[Any]
    maps: list[str] = field(default_factory=list)
    flat: list[str] = field(default_factory=list)

    @property
    def absent(self) -> list[int]:
        """The labels that never occur."""
        return np.flatnonzero(self.numbers == 0).tolist()

    def __str__(self) -> str:
        pairs = [f'{name} {number:,}' for name, number in zip(self.classes, self.numbers)]
        if len(pairs) > _SHOWN:  # the most frequent and the rarest
            half = _SHOWN // 2
            pairs = [pairs[i] for i in np.argsort(-self.numbers, kind='stable')]
            pairs = [*pairs[:half], f'… {len(pairs) - 2 * half} more …', *pairs[-half:]]
        of = '' if self.looked_at == self.size else f', in {self.looked_at:,} of {self.size:,}'
        return f'{self.unit} per class{of}: {", ".join(pairs)}'


def count_labels(
    dataset: Any, limits: Mapping[str, int] | None = None, read: Callable[..., Any] = map
) -> LabelCounts | None:
    """Count a data set's labels.

    Args:
        dataset: A data set of the hosts, built, or a wrapper of some.
        limits (Mapping[str, int], optional): By unit, how many entries are looked at, evenly spread: fewer where every
            class was seen, more where fewer than two were. Defaults to None, all.
        read (Callable): How label maps are read: ``map``, or what works in parallel and keeps the order.

    Returns:
        LabelCounts, optional: None where the data set has no classes, or its entries have no labels.
    """
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if not classes:
        return None
    parts = leaves(dataset)
    unit = next((unit for unit in map(_unit, parts) if unit), None)
    sizes = [len(part) for part in parts]
    size: int = sum(sizes)
    if unit is None and size:
        return None
    found = LabelCounts(tuple(map(str, classes)), unit or 'objects', size, 0, np.zeros(len(classes), int), parts)
    limit = (limits or {}).get(found.unit)
    entries = _spread(parts, sizes, limit or size)
    for numbers, info in (read if found.unit == 'pixels' else map)(_labels_of, entries):
        found.looked_at += 1
        found.numbers += numbers[: len(classes)]
        if found.unit == 'pixels':
            found.maps.append(info['seg_map_path'])
        elif any(_is_flat(each) for each in info.get('instances', ())):
            found.flat.append(str(info.get('img_path')))
        seen = len(classes) - len(found.absent)
        if limit and (seen == len(classes) or (found.looked_at >= limit and seen >= 2)):
            break
    return found


def leaves(dataset: Any) -> list[Any]:
    """The data sets within wrappers such as RepeatDataset and ConcatDataset."""
    if hasattr(dataset, 'datasets'):
        return [leaf for part in dataset.datasets for leaf in leaves(part)]
    return leaves(dataset.dataset) if hasattr(dataset, 'dataset') else [dataset]


def map_loader(part: Any) -> Any:
    """The transform that loads a data set's label maps; None without any."""
    transforms = getattr(getattr(part, 'pipeline', None), 'transforms', ())
    return next((each for each in transforms if getattr(each, 'with_seg', False)), None)


def _unit(part: Any) -> str | None:
    if not hasattr(part, 'get_data_info') or not len(part):
        return None
    info = part.get_data_info(0)
    if 'instances' in info:
        return 'objects'
    if 'gt_label' in info:
        return 'images'
    return 'pixels' if info.get('seg_map_path') and map_loader(part) is not None else None


def _spread(parts: list[Any], sizes: list[int], limit: int) -> Iterator[tuple[Any, int]]:
    """All entries; the first ``limit`` of them evenly spread."""
    ends, total = np.cumsum(sizes), sum(sizes)
    step = max(total // max(limit, 1), 1)
    for first in range(step):
        for i in range(first, total, step):
            part = int(np.searchsorted(ends, i, side='right'))
            yield parts[part], i - int(ends[part]) + sizes[part]


def _labels_of(entry: tuple[Any, int]) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """How often each label is in an entry, and the entry."""
    part, i = entry
    info = part.get_data_info(i)
    number = len(part.metainfo['classes'])
    if 'instances' in info:
        objects = [each for each in info['instances'] if not each.get('ignore_flag') and not _is_flat(each)]
        labels = np.array([each.get('bbox_label', -1) for each in objects], np.int64)
    elif 'gt_label' in info:
        labels = np.atleast_1d(np.asarray(info['gt_label'], np.int64))
    else:
        labels = map_loader(part)(info)['gt_seg_map'].ravel().astype(np.int64)
    return np.bincount(labels[(labels >= 0) & (labels < number)], minlength=number), info


def _is_flat(instance: dict[str, Any]) -> bool:
    x1, y1, x2, y2 = instance.get('bbox') or (0, 0, 1, 1)
    return bool(x2 <= x1 or y2 <= y1)
