"""Errors for data sets without any image: why none is left, and which names the annotation files contain.

:func:`protuning_mm.patches.patch_empty_data_sets` installs :func:`refuse_empty_data_sets`.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mmengine.fileio import list_from_file

from protuning_mm.data.errors import DataError

_FILES = 200  # at most this many XML files are read for the names in them
_LISTED = 8


def refuse_empty_data_sets(serialize: Callable[..., Any], dataset: Any) -> Any:
    """Call ``BaseDataset._serialize_data``; raise a DataError that says why a data set has no image.

    numpy's error, "need at least one array to concatenate", appears if no image of the folder has the suffix, or if no
    image has an object of the classes and ``filter_cfg`` drops them all.
    """
    if not dataset.data_list:
        raise DataError(f'{type(dataset).__name__} ({_paths(dataset)}): {explain_empty(dataset)}')
    return serialize(dataset)


def explain_empty(dataset: Any) -> str:
    """Explain why a data set has no image, and what would be right."""
    filters = getattr(dataset, 'filter_cfg', None)
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if not filters or not classes:
        return 'it has no image. Check data_prefix, ann_file and the suffixes of the files.'
    return (
        f'no image is left with filter_cfg={dict(filters)}: none has an object of its classes '
        f'({list_first(classes)}){list_xml_names(dataset)}. Write metainfo=dict(classes=…) with the names exactly as '
        'the annotations have them.'
    )


def list_xml_names(dataset: Any) -> str:
    """List the class names in the files of an XML data set; mmdet silently skips objects of other classes.

    Returns:
        str: A clause for an error message; empty for data sets without XML files.
    """
    if not hasattr(dataset, 'ann_subdir'):
        return ''
    names: Counter[str] = Counter()
    stems = list_from_file(dataset.ann_file)
    for stem in stems[:: -(-len(stems) // _FILES) or 1]:
        path = Path(dataset.sub_data_root) / dataset.ann_subdir / f'{stem}.xml'
        if path.is_file():
            names.update(str(each.findtext('name')) for each in ET.parse(path).getroot().findall('object'))
    shown = list_first(repr(name) for name, _ in names.most_common())
    return f'; the objects in its files are named {shown}' if shown else ''


def list_first(names: Iterable[Any]) -> str:
    """List the first few of some names, and how many more there are."""
    names = list(map(str, names))
    return ', '.join(names[:_LISTED]) + (f' and {len(names) - _LISTED} more' if len(names) > _LISTED else '')


def _paths(dataset: Any) -> str:
    prefix = dataset.data_prefix
    folders = [str(each) for each in prefix.values() if each] if isinstance(prefix, dict) else [str(prefix)]
    return ', '.join(filter(None, [str(dataset.ann_file or ''), *folders]))
