"""Annotations in COCO's layout, read and checked before anything is built from them.

What mmdet drops by itself stays accepted: boxes without area or outside of their image, unknown categories, objects
of images that are not listed, crowds. ``tools/doctor.py --data`` tells of those.
"""

import codecs
import json
import logging
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from protuning_mm.data.annotation_faults import faults_of
from protuning_mm.data.errors import DataError

_NAMED = 5
_PARTS = ('images', 'annotations', 'categories')


def read_annotations(path: Path, key: str) -> dict[str, Any]:
    """Read a file in COCO's layout.

    Args:
        path (Path): The file.
        key (str): The data set's key in the config.

    Raises:
        DataError: it is no JSON as COCO's own reader takes it, or not in COCO's layout.
    """
    where, content = f'{key}.ann_file: {str(path)!r}', read_json(path, key)
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in _PARTS):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{where} is not in COCO's layout: a dict of the lists {', '.join(_PARTS)}, but {found}")
    return content


def read_json(path: Path, key: str) -> Any:
    """Read an annotation file as COCO's own reader does.

    Args:
        path (Path): The file.
        key (str): The data set's key in the config.

    Raises:
        DataError: it is no JSON, or not in UTF-8, or begins with a byte order mark.
    """
    where, raw = f'{key}.ann_file: {str(path)!r}', path.read_bytes()
    if raw.startswith(codecs.BOM_UTF8):
        raise DataError(
            f"{where} begins with a byte order mark, which COCO's own reader refuses: save it as UTF-8 without one"
        )
    try:
        return json.loads(raw.decode())  # by its bytes json would take UTF-16 too, which COCO's reader does not
    except ValueError as error:
        raise DataError(f'{where} is no JSON: {error}') from None


def check_annotations(
    content: dict[str, Any], path: Path, key: str, classes: Any = None, train: bool = True, with_mask: bool = False
) -> None:
    """Check what an annotation file holds, in one pass; entries that are wrong but not used are warned of.

    Args:
        content (dict): What ``read_annotations`` read.
        path (Path): The file, for the error.
        key (str): The data set's key in the config.
        classes (Sequence[str], optional): The classes that the data set is to have.
        train (bool): Whether a run is to learn from it: then something must be left to learn from.
        with_mask (bool): Whether the run uses masks.

    Raises:
        DataError: names the file, the annotations or images at fault, what is wrong with them, and what would be right.
    """
    where = f'{key}.ann_file: {str(path)!r}'
    faults = list(faults_of(content, classes, with_mask))
    errors = [fault.said for fault in faults if fault.level == 'error']
    if errors:
        raise DataError(
            f'{where}: {len(errors)} entries cannot be used:{_listed(errors)}\nMend or delete them; python '
            'tools/doctor.py CONFIG --data looks at everything else.'
        )
    if faults:
        said = f'{where}: {len(faults)} entries are wrong, but this run does not use that part of them:'
        print_log(said + _listed([fault.said for fault in faults]), 'current', logging.WARNING)
    if train and (lacks := nothing_is_left(content, classes)):
        raise DataError(f'{where} {lacks}')


def _listed(said: list[str]) -> str:
    more = f'\n  … and {len(said) - _NAMED} more' if len(said) > _NAMED else ''
    return ''.join(f'\n  {each}' for each in said[:_NAMED]) + more


def nothing_is_left(content: dict[str, Any], classes: Any) -> str | None:
    """Say why nothing can be learned from annotations that have no faults; None where something can.

    Args:
        content (dict): What ``read_annotations`` read.
        classes (Sequence[str], optional): The classes that the data set is to have.
    """
    if not content['images']:
        return 'lists no image: there is nothing to train on'
    if not content['annotations']:
        return 'lists no annotation: there is nothing to learn'
    images = {image['id'] for image in content['images']}
    names = None if classes is None else set(classes)
    known = {each['id'] for each in content['categories'] if names is None or each.get('name') in names}
    left = (each for each in content['annotations'] if each['image_id'] in images and each['category_id'] in known)
    if any(min(each['bbox'][2:]) >= 1 and each['area'] > 0 for each in left):
        return None
    return (
        f'is of no use: none of its {len(content["annotations"])} annotations has an image_id that is listed, a '
        "category_id of the data set's classes and a box with an area: there is nothing to learn"
    )
