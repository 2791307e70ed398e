"""Entries of an annotation file in COCO's layout that are wrong, each with its id."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

_LARGEST = 1e7  # pixels
_NEEDED = ('id', 'image_id', 'category_id', 'bbox', 'area')
_CORNERS = 3  # of a polygon
_WHOLE = 'whole numbers, written as 1 and not as 1.0 (pandas: df[column].astype(int))'


@dataclass(frozen=True)
class Fault:
    """An entry that is wrong.

    Args:
        kind (str): What of it: ``'bbox'``, ``'polygons'``.
        said (str): The entry by its id, what is there, and what would be right.
        level (str): ``'error'``: the run would stop, or learn something wrong. ``'warning'``: it does not use it.
        entry: What the file holds there.
    """

    kind: str
    said: str
    level: Literal['error', 'warning'] = 'error'
    entry: Any = field(default=None, repr=False)


def faults_of(content: dict[str, Any], classes: Any = None, with_mask: bool = False) -> Iterator[Fault]:
    """Find the entries that are wrong.

    Args:
        content (dict): The file's: ``images``, ``annotations`` and ``categories`` are lists.
        classes (Sequence[str], optional): The classes that the data set is to have; other categories do not matter.
        with_mask (bool): Whether the run uses masks.
    """
    names: dict[str, Any] = {}
    ids: dict[Any, str] = {}
    for category in content['categories']:
        yield from (replace(fault, entry=category) for fault in _of_category(category, classes, names, ids))
    images: dict[Any, dict[str, Any]] = {}
    for image in content['images']:
        yield from (replace(fault, entry=image) for fault in _of_image(image, images))
    seen: set[Any] = set()
    for annotation in content['annotations']:
        yield from (replace(fault, entry=annotation) for fault in _of_annotation(annotation, images, seen, with_mask))


def _of_category(category: Any, classes: Any, names: dict[str, Any], ids: dict[Any, str]) -> Iterator[Fault]:
    """Two of one name or id: mmdet numbers both, and the labels of all that follow are one off."""
    if not isinstance(category, dict) or not {'id', 'name'} <= set(category):
        yield Fault('categories', f'category {category!r:.80}: id and name are needed')
        return
    identity, name = category['id'], str(category['name'])
    if not _is_id(identity):
        yield Fault('ids', f'category {name!r}: id={identity!r:.80}: ids must be {_WHOLE}')
        return
    if classes is not None and name not in classes:
        return
    if name in names:
        yield Fault(
            'categories',
            f'category id {identity}: id {names[name]} has the same name, {name!r}: mmdet would count two classes, '
            'and the labels behind them would be wrong. Give both one id, or two names',
        )
    if identity in ids:
        yield Fault('categories', f'category id {identity} ({name!r}): {ids[identity]!r} has the same id')
    names.setdefault(name, identity)
    ids.setdefault(identity, name)


def _of_image(image: Any, seen: dict[Any, dict[str, Any]]) -> Iterator[Fault]:
    if not isinstance(image, dict) or 'id' not in image or not (image.get('file_name') or image.get('coco_url')):
        yield Fault('images', f'image {image!r:.80}: id and file_name are needed')
        return
    name = f'image id {image["id"]!r:.80} ({image.get("file_name")!r})'
    if not _is_id(image['id']):
        yield Fault('ids', f'{name}: ids must be {_WHOLE}')
        return
    if not all(_finite(image.get(side)) and image[side] > 0 for side in ('height', 'width')):
        found = f'height={image.get("height")!r}, width={image.get("width")!r}'
        yield Fault('height and width', f'{name}: {found}: must be positive numbers')
    if image['id'] in seen:
        yield Fault('ids', f'{name}: there is another image of that id')
    seen[image['id']] = image


def _of_annotation(
    annotation: Any, images: dict[Any, dict[str, Any]], seen: set[Any], with_mask: bool
) -> Iterator[Fault]:
    if not isinstance(annotation, dict) or not set(_NEEDED) <= set(annotation):
        yield Fault('parts that lack', f'annotation {annotation!r:.80}: {", ".join(_NEEDED)} are needed')
        return
    wrong = [key for key in ('id', 'image_id', 'category_id') if not _is_id(annotation[key])]
    if wrong:
        found = ', '.join(f'{key}={annotation[key]!r:.80}' for key in wrong)
        yield Fault('ids', f'annotation id {annotation["id"]!r:.80}: {found}: ids must be {_WHOLE}')
        return
    name = f'annotation id {annotation["id"]} of image id {annotation["image_id"]}'
    if annotation['id'] in seen:
        yield Fault('ids', f'{name}: there is another annotation of that id')
    seen.add(annotation['id'])
    box = annotation['bbox']
    if not isinstance(box, list) or len(box) != 4 or not all(_finite(side) for side in box):
        yield Fault('bbox', f'{name}: bbox={box!r:.80} must be four finite numbers, [x, y, width, height] in pixels')
    if not _finite(annotation['area']):
        yield Fault('area', f'{name}: area={annotation["area"]!r:.80} must be a finite number of pixels')
    for flag in ('iscrowd', 'ignore'):  # nan counts as true in mmdet, and stops COCO's evaluation
        if annotation.get(flag) not in (None, 0, 1):
            yield Fault(flag, f'{name}: {flag}={annotation[flag]!r:.80} must be 0 or 1')
    mask = annotation.get('segmentation')
    if with_mask and not mask and not annotation.get('ignore'):
        yield Fault(
            'masks that lack',
            f'{name}: it has no segmentation, but masks are asked for: with_mask=True of LoadAnnotations, or '
            "metric='segm' of the evaluator",
        )
    fault = _of_mask(mask, images.get(annotation['image_id'], {}))
    if fault:
        yield Fault('segmentation', f'{name}: {fault}')
    elif fault := fault_of_polygons(mask):
        yield Fault('polygons', f'{name}: {fault}', 'error' if with_mask else 'warning')


def _of_mask(mask: Any, image: dict[str, Any]) -> str | None:
    if mask is None:
        return None
    if isinstance(mask, list):
        wrong = next((p for p in mask if not isinstance(p, list) or not all(_finite(number) for number in p)), None)
        return None if wrong is None else f'segmentation has a polygon of no finite numbers, {wrong!r:.80}'
    if not isinstance(mask, dict) or 'counts' not in mask or not _is_pair(mask.get('size')):
        return f'segmentation={mask!r:.80} must be polygons, or a dict of counts and size'
    size, counts = mask['size'], mask['counts']
    if image and list(size) != [image.get('height'), image.get('width')]:
        return f'segmentation.size={size}, but its image is {image.get("height")}x{image.get("width")} (height x width)'
    if not isinstance(counts, list):  # compressed
        return None
    if not all(_finite(number) and number >= 0 for number in counts) or sum(counts) != size[0] * size[1]:
        return f'segmentation.counts must be run lengths that add up to {size[0]} x {size[1]}'
    return None


def fault_of_polygons(mask: Any) -> str | None:
    """Say which polygon is none: mmdet leaves it out of training, and COCO's evaluation stops or finds it empty."""
    for polygon in mask if isinstance(mask, list) else ():
        if len(polygon) % 2:
            return f'segmentation has a polygon of {len(polygon)} numbers, {polygon!r:.80}: x and y alternate'
        if len(polygon) < 2 * _CORNERS:
            points = 'one point' if len(polygon) == 2 else f'{len(polygon) // 2} points'
            return f'segmentation has a polygon of {points}, {polygon!r:.80}: it needs {_CORNERS} or more'
    return None


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_finite(number) for number in value)


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _LARGEST
