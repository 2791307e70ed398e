"""Annotations in COCO's layout, read and checked before a data set is built.

What mmdet drops by itself is accepted: boxes without area or outside their image, unknown categories, objects of
unlisted images, and crowds. ``tools/doctor.py --data`` reports those.
"""

import codecs
import json
import logging
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from protuning_mm.data.annotation_faults import find_annotation_faults
from protuning_mm.data.errors import DataError

_LISTED = 5
_PARTS = ('images', 'annotations', 'categories')


def read_annotations(path: Path, key: str) -> dict[str, Any]:
    """Read an annotation file in COCO's layout.

    Args:
        path (Path): The file.
        key (str): The data set's key in the config.

    Returns:
        dict: The content of the file.

    Raises:
        DataError: COCO's own reader would not accept the file as JSON, or it is not in COCO's layout.
    """
    where, content = f'{key}.ann_file: {str(path)!r}', read_json(path, key)
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in _PARTS):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(
            f"{where} is not in COCO's layout: it must be a dict of the lists {', '.join(_PARTS)}, but it has {found}"
        )
    return content


def read_json(path: Path, key: str) -> Any:
    """Read an annotation file as COCO's own reader does.

    Args:
        path (Path): The file.
        key (str): The data set's key in the config.

    Returns:
        Any: The content of the file.

    Raises:
        DataError: the file is not JSON, is not encoded in UTF-8, or begins with a byte order mark.
    """
    where, raw = f'{key}.ann_file: {str(path)!r}', path.read_bytes()
    if raw.startswith(codecs.BOM_UTF8):
        raise DataError(
            f"{where} begins with a byte order mark, which COCO's own reader refuses: save it as UTF-8 without one"
        )
    try:
        return json.loads(raw.decode())  # decode first: json.loads(bytes) accepts UTF-16, but COCO's reader does not
    except ValueError as error:
        raise DataError(f'{where} is not JSON: {error}') from None


def check_annotations(
    content: dict[str, Any], path: Path, key: str, classes: Any = None, train: bool = True, with_mask: bool = False
) -> None:
    """Check the content of an annotation file, and log a warning for wrong entries that the run does not use.

    Args:
        content (dict): The content of the file, from :func:`read_annotations`.
        path (Path): The file, for the error.
        key (str): The data set's key in the config.
        classes (Sequence[str], optional): The data set's classes. Defaults to None: all categories.
        train (bool): Whether a run trains on the data set. Then at least one object must be usable. Defaults to True.
        with_mask (bool): Whether the run uses masks. Defaults to False.

    Raises:
        DataError: names the file, the wrong entries, what is wrong with them, and what would be right.
    """
    where = f'{key}.ann_file: {str(path)!r}'
    faults = list(find_annotation_faults(content, classes, with_mask))
    errors = [fault.message for fault in faults if fault.level == 'error']
    if errors:
        raise DataError(
            f'{where}: {len(errors)} entries cannot be used:{_list_first(errors)}\nCorrect or delete them. '
            'python tools/doctor.py CONFIG --data checks everything else.'
        )
    if faults:
        message = f'{where}: {len(faults)} entries are wrong, but this run does not use the wrong part of them:'
        print_log(message + _list_first([fault.message for fault in faults]), 'current', logging.WARNING)
    if train and (reason := explain_nothing_to_learn(content, classes)):
        raise DataError(f'{where} {reason}')


def _list_first(messages: list[str]) -> str:
    more = f'\n  … and {len(messages) - _LISTED} more' if len(messages) > _LISTED else ''
    return ''.join(f'\n  {message}' for message in messages[:_LISTED]) + more


def explain_nothing_to_learn(content: dict[str, Any], classes: Any) -> str | None:
    """Explain why a run can learn nothing from annotations, although no entry is wrong.

    Args:
        content (dict): The content of the file, from :func:`read_annotations`.
        classes (Sequence[str], optional): The data set's classes; None for all categories.

    Returns:
        str, optional: The end of a sentence that begins with the file's name; None if there is something to learn.
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
        f'has nothing to learn: none of its {len(content["annotations"])} annotations has a listed image_id, a '
        "category_id of the data set's classes and a box with an area"
    )
