"""Classes that never occur in a data set: nothing of them can be learned, and the scores may look perfect."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from protuning_mm.data.empty_data_sets import first_names, names_in_xml
from protuning_mm.data.label_counts import LabelCounts, map_loader

_IGNORED = 255  # in a label map, whatever else is
_FILES = 200  # that are read again to say what is in them
_NAMED = 8

Said = tuple[Literal['error', 'warning'], str, str]


def faults_of_labels(found: LabelCounts, key: str) -> Iterator[Said]:
    """Say which classes never occur, and what is there in their place.

    Args:
        found (LabelCounts): What was counted.
        key (str): The data set's key in the config.

    Yields:
        tuple: ``'error'`` where training or its validation cannot mean anything, ``'warning'`` else; what was found,
            and what to change.
    """
    if found.flat:
        said = f'objects of {len(found.flat)} images have a box without area, which no loss is meant for: '
        yield 'warning', said + first_names(found.flat), _OF_FLAT
    train, seen = key.startswith('train'), len(found.classes) - len(found.absent)
    used = not key.startswith('test')  # a test set may come without annotations
    if not found.size:
        yield 'error' if used else 'warning', 'no image is left in it', _OF_OBJECTS
    elif found.unit == 'pixels' and (found.absent or seen < 2):
        pointless = train and (not seen or (seen == 1 and len(found.classes) > 1))
        yield 'error' if pointless else 'warning', _of_maps(found, seen), _advice_for_maps(found)
    elif not seen:
        said = f'none of its {found.size:,} images has an object of its classes ({first_names(found.classes)})'
        yield 'error' if used else 'warning', said + _in_xml(found), _OF_OBJECTS
    elif found.absent:
        what = 'object' if found.unit == 'objects' else 'image'
        names = first_names(found.classes[label] for label in found.absent)
        yield 'warning', f'no {what} of {names} in {_looked_at(found, "images")}{_in_xml(found)}', _OF_OBJECTS


_OF_FLAT = 'mend or delete those objects; for XML files filter_cfg=dict(bbox_min_size=1) of a training set ignores them'
_OF_OBJECTS = (
    'metainfo=dict(classes=…) of the data set with names as the annotations have them, to the letter; or take classes '
    'that never occur out'
)


def _looked_at(found: LabelCounts, what: str) -> str:
    if found.looked_at == found.size:
        return f'its {found.size:,} {what}'
    return f'{found.looked_at:,} of its {found.size:,} {what} (python tools/doctor.py CONFIG --data looks at all)'


def _of_maps(found: LabelCounts, seen: int) -> str:
    if found.absent:
        names = first_names(f'{found.classes[label]!r}' for label in found.absent)
        said = f'no pixel of {names if seen else "any class"} in {_looked_at(found, "label maps")}'
    else:
        said = f'every pixel that is not ignored is of its only class in {_looked_at(found, "label maps")}'
    expected, ignored = _expected(found)
    there = _values(found.maps)
    files = f'. The files hold {_ranges(there)}' if there else ''
    return f'{said}{files}; expected are {_listed(expected)}; ignored: {_ranges(ignored)}'


def _advice_for_maps(found: LabelCounts) -> str:
    expected, ignored = _expected(found)
    there, reduced = _values(found.maps), 0 in ignored
    wanted = [f'{value} ({name})' for value, name in expected.items() if value not in there]
    advice = []
    if not found.absent:
        advice.append("a second class, such as 'background': with one alone there is nothing to tell apart")
    if reduced and 0 in there:
        advice.append(f'reduce_zero_label=False in the data set and its pipeline, if 0 is a class ({found.classes[0]})')
    if _IGNORED in there and wanted:
        advice.append(f'write {first_names(wanted)} into the maps where {_IGNORED} marks that class')
    return '; or '.join(advice) or 'mend the maps, or take classes that never occur out of metainfo and num_classes'


def _expected(found: LabelCounts) -> tuple[dict[int, str], list[int]]:
    """The values that classes have in the files, and those that are ignored, as mmseg reads them."""
    part = found.parts[0]
    old_to_new = getattr(part, 'label_map', None) or {i: i for i in range(len(found.classes))}
    reduced = bool(getattr(part, 'reduce_zero_label', False) or getattr(map_loader(part), 'reduce_zero_label', False))
    values = {old + reduced: found.classes[new] for old, new in old_to_new.items() if new < len(found.classes)}
    ignored = {getattr(part, 'ignore_index', _IGNORED), _IGNORED, *([0] if reduced else [])}
    return values, sorted(ignored - set(values))


def _values(paths: list[str]) -> list[int]:
    """The values in label maps; of many, in some evenly spread ones."""
    step = -(-len(paths) // _FILES) or 1
    there: set[int] = set()
    for path in paths[::step]:
        if Path(path).is_file():
            with Image.open(path) as image:
                there.update(np.unique(np.asarray(image)).tolist())
    return sorted(there)


def _in_xml(found: LabelCounts) -> str:
    return ''.join(map(names_in_xml, found.parts[:1]))


def _listed(expected: dict[int, str]) -> str:
    pairs = [f'{value} ({name})' for value, name in sorted(expected.items())]
    return ', '.join(pairs) if len(pairs) <= _NAMED else f'{pairs[0]}, {pairs[1]}, … {pairs[-1]}'


def _ranges(values: Iterable[int]) -> str:
    """'0 to 3 and 255'."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    said = [str(run[0]) if len(run) == 1 else f'{run[0]} to {run[-1]}' for run in runs]
    return first_names(said[:-1]) + (' and ' if said[:-1] else '') + ''.join(said[-1:])
