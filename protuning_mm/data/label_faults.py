"""Faults in the labels of a data set: classes that never occur cannot be learned, and scores may look perfect."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from protuning_mm.data.empty_data_sets import list_first, list_xml_names
from protuning_mm.data.label_counts import LabelCounts, find_map_loader

_IGNORED = 255  # always ignored in a label map
_FILES = 200  # at most this many label maps are read again to list their values
_LISTED = 8

LabelFault = tuple[Literal['error', 'warning'], str, str]


def find_label_faults(found: LabelCounts, key: str) -> Iterator[LabelFault]:
    """Find classes that never occur, and the labels that occur instead.

    Args:
        found (LabelCounts): The counts of the data set.
        key (str): The data set's key in the config.

    Yields:
        tuple: ``'error'`` if training or validation would be meaningless, otherwise ``'warning'``; what was found; and
            what to change.
    """
    if found.empty_boxes:
        message = f'objects of {len(found.empty_boxes)} images have a box without area, which losses do not expect: '
        yield 'warning', message + list_first(found.empty_boxes), _FIX_BOXES
    train, seen = key.startswith('train'), len(found.classes) - len(found.absent_labels)
    used = not key.startswith('test')  # a test set may have no annotations
    if not found.size:
        yield 'error' if used else 'warning', 'no image is left in it', _FIX_CLASSES
    elif found.unit == 'pixels' and (found.absent_labels or seen < 2):
        pointless = train and (not seen or (seen == 1 and len(found.classes) > 1))
        yield 'error' if pointless else 'warning', *_explain_maps(found, seen)
    elif not seen:
        message = f'none of its {found.size:,} images has an object of its classes ({list_first(found.classes)})'
        yield 'error' if used else 'warning', message + list_xml_names(found.data_sets[0]), _FIX_CLASSES
    elif found.absent_labels:
        what = 'object' if found.unit == 'objects' else 'image'
        names = list_first(found.classes[label] for label in found.absent_labels)
        message = f'no {what} of {names} in {_describe_sample(found, "images")}'
        yield 'warning', message + list_xml_names(found.data_sets[0]), _FIX_CLASSES


_FIX_BOXES = (
    'correct or delete those objects; for XML files, filter_cfg=dict(bbox_min_size=1) of a training set ignores them'
)
_FIX_CLASSES = (
    'metainfo=dict(classes=…) of the data set with the names exactly as the annotations have them; or remove classes '
    'that never occur'
)


def _describe_sample(found: LabelCounts, what: str) -> str:
    if found.counted == found.size:
        return f'its {found.size:,} {what}'
    return f'{found.counted:,} of its {found.size:,} {what} (python tools/doctor.py CONFIG --data counts all)'


def _explain_maps(found: LabelCounts, seen: int) -> tuple[str, str]:
    """Say which classes no pixel has, which values the files hold instead, and what to change."""
    expected, ignored = _find_expected_values(found)
    present = _read_values(found.label_maps)
    sample, advice = _describe_sample(found, 'label maps'), []
    if found.absent_labels:
        names = list_first(f'{found.classes[label]!r}' for label in found.absent_labels)
        message = f'no pixel of {names if seen else "any class"} in {sample}'
    else:
        message = f'all pixels that are not ignored belong to its single class in {sample}'
        advice.append("a second class, such as 'background': with a single class there is nothing to distinguish")
    if present:
        message += f'. The files hold {_format_ranges(present)}'
    message += f'; expected are {_list_values(expected)}; ignored: {_format_ranges(ignored)}'
    if 0 in ignored and 0 in present:
        advice.append(f'reduce_zero_label=False in the data set and its pipeline, if 0 is a class ({found.classes[0]})')
    missing = [f'{value} ({name})' for value, name in expected.items() if value not in present]
    if _IGNORED in present and missing:
        advice.append(f'write {list_first(missing)} into the maps where {_IGNORED} marks that class')
    fallback = 'correct the maps, or remove classes that never occur from metainfo and num_classes'
    return message, '; or '.join(advice) or fallback


def _find_expected_values(found: LabelCounts) -> tuple[dict[int, str], list[int]]:
    """Find the values that classes have in the files, and the ignored values, as mmseg reads them."""
    part = found.data_sets[0]
    old_to_new = getattr(part, 'label_map', None) or {i: i for i in range(len(found.classes))}
    reduced = any(getattr(each, 'reduce_zero_label', False) for each in (part, find_map_loader(part)))
    values = {old + reduced: found.classes[new] for old, new in old_to_new.items() if new < len(found.classes)}
    ignored = {getattr(part, 'ignore_index', _IGNORED), _IGNORED, *([0] if reduced else [])}
    return values, sorted(ignored - set(values))


def _read_values(paths: list[str]) -> list[int]:
    """Read the values in label maps; of many maps, only in some evenly spread ones."""
    step = -(-len(paths) // _FILES) or 1
    values: set[int] = set()
    for path in paths[::step]:
        if Path(path).is_file():
            with Image.open(path) as image:
                values.update(np.unique(np.asarray(image)).tolist())
    return sorted(values)


def _list_values(expected: dict[int, str]) -> str:
    pairs = [f'{value} ({name})' for value, name in sorted(expected.items())]
    return ', '.join(pairs) if len(pairs) <= _LISTED else f'{pairs[0]}, {pairs[1]}, … {pairs[-1]}'


def _format_ranges(values: Iterable[int]) -> str:
    """Format sorted values, for example as '0 to 3 and 255'."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    ranges = [str(run[0]) if len(run) == 1 else f'{run[0]} to {run[-1]}' for run in runs]
    return list_first(ranges[:-1]) + (' and ' if ranges[:-1] else '') + ''.join(ranges[-1:])
