"""A data set in which nothing is left says so, and of which names its files speak."""

import xml.etree.ElementTree as ET
from collections import Counter
from functools import wraps
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.fileio import list_from_file

from protuning_mm.data.errors import DataError

_FILES = 200  # that are read for the names in them
_NAMED = 8


def patch_empty_data_sets() -> None:
    """Make the hosts' data sets say that no image is left in them, and why.

    numpy says "need at least one array to concatenate" where a folder has no image of the suffix, or where no image has
    an object of the classes and ``filter_cfg`` drops it.
    """
    serialize = BaseDataset._serialize_data
    if hasattr(serialize, '__wrapped__'):
        return

    @wraps(serialize)
    def named(self: BaseDataset) -> Any:
        if not self.data_list:
            raise DataError(f'{type(self).__name__} ({_place(self)}): {why_empty(self)}')
        return serialize(self)

    BaseDataset._serialize_data = named


def why_empty(dataset: Any) -> str:
    """Say why no image is left in a data set, and what would be right."""
    filters = getattr(dataset, 'filter_cfg', None)
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if not filters or not classes:
        return 'it has no image. Look at data_prefix, ann_file and the suffixes of the files.'
    return (
        f'no image is left with filter_cfg={dict(filters)}: none has an object of its classes '
        f'({first_names(classes)}){names_in_xml(dataset)}. Write metainfo=dict(classes=…) with names as the '
        'annotations have them, to the letter.'
    )


def names_in_xml(dataset: Any) -> str:
    """The names in the files of a data set of XML: mmdet passes over those that are no class, without a word."""
    if not hasattr(dataset, 'ann_subdir'):
        return ''
    names: Counter[str] = Counter()
    listed = list_from_file(dataset.ann_file)
    for name in listed[:: -(-len(listed) // _FILES) or 1]:
        path = Path(dataset.sub_data_root) / dataset.ann_subdir / f'{name}.xml'
        if path.is_file():
            names.update(str(each.findtext('name')) for each in ET.parse(path).getroot().findall('object'))
    shown = first_names(repr(name) for name, _ in names.most_common())
    return f'; the objects in its files are named {shown}' if shown else ''


def first_names(names: Any) -> str:
    """The first few of some names."""
    names = list(map(str, names))
    return ', '.join(names[:_NAMED]) + (f' and {len(names) - _NAMED} more' if len(names) > _NAMED else '')


def _place(dataset: Any) -> str:
    prefix = dataset.data_prefix
    folders = [str(each) for each in prefix.values() if each] if isinstance(prefix, dict) else [str(prefix)]
    return ', '.join(filter(None, [str(dataset.ann_file or ''), *folders]))
