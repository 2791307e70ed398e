"""Annotations in COCO's layout that would stop a run later with a puzzling error, or poison it in silence.

What mmdet drops by itself stays accepted: boxes without area or outside of their image, unknown categories, objects
of images that are not listed, crowds. ``tools/doctor.py --data`` tells of those.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protuning_mm.datasets.errors import DataError

_LARGEST = 1e7  # pixels
_NAMED = 5


def check_annotations(
    content: Any, path: Path, key: str, classes: Any = None, train: bool = True, with_mask: bool = False
) -> None:
    """Check what an annotation file holds, in one pass.

    Args:
        content: The parsed JSON.
        path (Path): The file, for the error.
        key (str): The data set's key in the config.
        classes (Sequence[str], optional): The classes that the data set is to have.
        train (bool): Whether a run is to learn from it: then something must be left to learn from.
        with_mask (bool): Whether the pipeline loads masks.

    Raises:
        DataError: names the file, the annotations or images at fault, what is wrong with them, and what would be right.
    """
    where = f'{key}.ann_file: {str(path)!r}'
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in _PARTS):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(f"{where} is not in COCO's layout: a dict of the lists {', '.join(_PARTS)}, but {found}")
    faults = [
        *faults_of_categories(content['categories'], classes),
        *_faults_of_images(content['images']),
        *_faults_of_annotations(content, with_mask),
    ]
    if faults:
        more = f'\n  … and {len(faults) - _NAMED} more' if len(faults) > _NAMED else ''
        raise DataError(
            f'{where}: {len(faults)} entries cannot be used:\n  ' + '\n  '.join(faults[:_NAMED]) + more + '\nMend or '
            'delete them; python tools/doctor.py CONFIG --data looks at everything else.'
        )
    if train:
        _check_something_is_left(content, where, classes)


_NEEDED = ('id', 'image_id', 'category_id', 'bbox', 'area')
_PARTS = ('images', 'annotations', 'categories')


def faults_of_categories(categories: list[Any], classes: Any) -> Iterator[str]:
    """Say which categories share a name or an id: mmdet numbers both, and the labels of all that follow are one off.

    Args:
        categories (list): The file's.
        classes (Sequence[str], optional): The data set's; other categories do not matter.
    """
    names: dict[Any, Any] = {}
    ids: dict[Any, Any] = {}
    for category in categories:
        if not isinstance(category, dict) or not {'id', 'name'} <= set(category):
            yield f'category {category!r:.80}: id and name are needed'
            continue
        identity, name = str(category['id']), str(category['name'])
        if classes is not None and not isinstance(classes, str) and name not in classes:
            continue
        if name in names:
            yield (
                f'category id {identity}: id {names[name]} has the same name, {name!r}: mmdet would count two classes, '
                'and the labels behind them would be wrong. Give both one id, or two names'
            )
        if identity in ids:
            yield f'category id {identity} ({name!r}): {ids[identity]!r} has the same id'
        names.setdefault(name, identity)
        ids.setdefault(identity, name)


def _faults_of_images(images: list[Any]) -> Iterator[str]:
    seen = set()
    for image in images:
        if not isinstance(image, dict) or 'id' not in image or not (image.get('file_name') or image.get('coco_url')):
            yield f'image {image!r:.80}: id and file_name are needed'
            continue
        name = f'image id {image["id"]} ({image.get("file_name")!r})'
        if not all(_finite(image.get(side)) and image[side] > 0 for side in ('height', 'width')):
            yield f'{name}: height={image.get("height")!r}, width={image.get("width")!r}: must be positive numbers'
        if image['id'] in seen:
            yield f'{name}: there is another image of that id'
        seen.add(image['id'])


def _faults_of_annotations(content: dict[str, Any], with_mask: bool) -> Iterator[str]:
    sizes = {image['id']: image for image in content['images'] if isinstance(image, dict) and 'id' in image}
    seen = set()
    for annotation in content['annotations']:
        if not isinstance(annotation, dict) or not set(_NEEDED) <= set(annotation):
            yield f'annotation {annotation!r:.80}: {", ".join(_NEEDED)} are needed'
            continue
        if not all(isinstance(annotation[part], int | str) for part in ('id', 'image_id', 'category_id')):
            yield f'annotation {annotation!r:.80}: ids must be numbers'
            continue
        name = f'annotation id {annotation["id"]} of image id {annotation["image_id"]}'
        if annotation['id'] in seen:
            yield f'{name}: there is another annotation of that id'
        seen.add(annotation['id'])
        box, image = annotation['bbox'], sizes.get(annotation['image_id'], {})
        if not isinstance(box, list) or len(box) != 4 or not all(_finite(side) for side in box):
            yield f'{name}: bbox={box!r:.80} must be four finite numbers, [x, y, width, height] in pixels'
        if not _finite(annotation['area']):
            yield f'{name}: area={annotation["area"]!r:.80} must be a finite number of pixels'
        if with_mask and not annotation.get('segmentation') and not annotation.get('ignore'):
            yield f'{name}: it has no segmentation, and the pipeline loads masks (LoadAnnotations, with_mask=True)'
        fault = _fault_of_mask(annotation.get('segmentation'), image)
        if fault:
            yield f'{name}: {fault}'


def _fault_of_mask(mask: Any, image: dict[str, Any]) -> str | None:
    if mask is None:
        return None
    if isinstance(mask, list):
        wrong = next((p for p in mask if not isinstance(p, list) or not all(_finite(number) for number in p)), None)
        return None if wrong is None else f'segmentation has a polygon of no finite numbers, {wrong!r:.80}'
    if not isinstance(mask, dict) or not {'counts', 'size'} <= set(mask):
        return f'segmentation={mask!r:.80} must be polygons, or a dict of counts and size'
    size, counts = mask['size'], mask['counts']
    if image and list(size) != [image.get('height'), image.get('width')]:
        return f'segmentation.size={size}, but its image is {image.get("height")}x{image.get("width")} (height x width)'
    if not isinstance(counts, list):  # compressed
        return None
    if not all(_finite(number) and number >= 0 for number in counts) or sum(counts) != size[0] * size[1]:
        return f'segmentation.counts must be run lengths that add up to {size[0]} x {size[1]}'
    return None


def _check_something_is_left(content: dict[str, Any], where: str, classes: Any) -> None:
    if not content['images']:
        raise DataError(f'{where} lists no image: there is nothing to train on')
    if not content['annotations']:
        raise DataError(f'{where} lists no annotation: there is nothing to learn')
    images = {image['id'] for image in content['images']}
    names = None if classes is None else set(classes)
    known = {each['id'] for each in content['categories'] if names is None or each.get('name') in names}
    left = (each for each in content['annotations'] if each['image_id'] in images and each['category_id'] in known)
    if not any(min(each['bbox'][2:]) >= 1 and each['area'] > 0 for each in left):
        raise DataError(
            f'{where}: none of its {len(content["annotations"])} annotations has an image_id that is listed, a '
            "category_id of the data set's classes and a box with an area: there is nothing to learn"
        )


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _LARGEST
