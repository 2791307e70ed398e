"""Faults in an annotation file in COCO's layout: which entry is wrong, and what would be right."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

_LARGEST = 1e7  # pixels
_REQUIRED = ('id', 'image_id', 'category_id', 'bbox', 'area')
_CORNERS = 3  # the fewest corners of a polygon
_INTEGERS = 'integers, written as 1 and not as 1.0 (pandas: df[column].astype(int))'


@dataclass(frozen=True)
class AnnotationFault:
    """A wrong entry of an annotation file.

    Args:
        kind (str): The wrong part of the entry, such as ``'bbox'`` or ``'polygons'``.
        message (str): The entry's id, what was found, and what would be right.
        level (str): ``'error'`` if the run would stop or learn something wrong, ``'warning'`` if it does not use the
            wrong part. Defaults to ``'error'``.
        entry: The entry itself. Defaults to None.
    """

    kind: str
    message: str
    level: Literal['error', 'warning'] = 'error'
    entry: Any = field(default=None, repr=False)


def find_annotation_faults(
    content: dict[str, Any], classes: Any = None, with_mask: bool = False
) -> Iterator[AnnotationFault]:
    """Find the wrong entries of an annotation file.

    Args:
        content (dict): The content of the file, with the lists ``images``, ``annotations`` and ``categories``.
        classes (Sequence[str], optional): The data set's classes; other categories are not checked. Defaults to None:
            all categories are.
        with_mask (bool): Whether the run uses masks. Defaults to False.

    Yields:
        AnnotationFault: A wrong entry.
    """
    names: dict[str, Any] = {}
    ids: dict[Any, str] = {}
    for category in content['categories']:
        yield from (replace(fault, entry=category) for fault in _check_category(category, classes, names, ids))
    images: dict[Any, dict[str, Any]] = {}
    for image in content['images']:
        yield from (replace(fault, entry=image) for fault in _check_image(image, images))
    seen: set[Any] = set()
    for annotation in content['annotations']:
        yield from (
            replace(fault, entry=annotation) for fault in _check_annotation(annotation, images, seen, with_mask)
        )


def _check_category(
    category: Any, classes: Any, names: dict[str, Any], ids: dict[Any, str]
) -> Iterator[AnnotationFault]:
    """Also find two categories of one name or id: mmdet numbers both, so all later labels are off by one."""
    if not isinstance(category, dict) or not {'id', 'name'} <= set(category):
        yield AnnotationFault('categories', f'category {category!r:.80}: id and name are required')
        return
    identity, name = category['id'], str(category['name'])
    if not _is_id(identity):
        yield AnnotationFault('ids', f'category {name!r}: id={identity!r:.80}: ids must be {_INTEGERS}')
        return
    if classes is not None and name not in classes:
        return
    if name in names:
        yield AnnotationFault(
            'categories',
            f'category id {identity}: id {names[name]} has the same name, {name!r}: mmdet would count two classes, '
            'and all later labels would be wrong. Use one id or two names',
        )
    if identity in ids:
        yield AnnotationFault('categories', f'category id {identity} ({name!r}): {ids[identity]!r} has the same id')
    names.setdefault(name, identity)
    ids.setdefault(identity, name)


def _check_image(image: Any, seen: dict[Any, dict[str, Any]]) -> Iterator[AnnotationFault]:
    if not isinstance(image, dict) or 'id' not in image or not (image.get('file_name') or image.get('coco_url')):
        yield AnnotationFault('images', f'image {image!r:.80}: id and file_name are required')
        return
    name = f'image id {image["id"]!r:.80} ({image.get("file_name")!r})'
    if not _is_id(image['id']):
        yield AnnotationFault('ids', f'{name}: ids must be {_INTEGERS}')
        return
    if not all(_finite(image.get(side)) and image[side] > 0 for side in ('height', 'width')):
        found = f'height={image.get("height")!r}, width={image.get("width")!r}'
        yield AnnotationFault('height and width', f'{name}: {found}: must be positive numbers')
    if image['id'] in seen:
        yield AnnotationFault('ids', f'{name}: another image has this id')
    seen[image['id']] = image


def _check_annotation(
    annotation: Any, images: dict[Any, dict[str, Any]], seen: set[Any], with_mask: bool
) -> Iterator[AnnotationFault]:
    if not isinstance(annotation, dict) or not set(_REQUIRED) <= set(annotation):
        yield AnnotationFault('missing parts', f'annotation {annotation!r:.80}: {", ".join(_REQUIRED)} are required')
        return
    wrong = [key for key in ('id', 'image_id', 'category_id') if not _is_id(annotation[key])]
    if wrong:
        found = ', '.join(f'{key}={annotation[key]!r:.80}' for key in wrong)
        yield AnnotationFault('ids', f'annotation id {annotation["id"]!r:.80}: {found}: ids must be {_INTEGERS}')
        return
    name = f'annotation id {annotation["id"]} of image id {annotation["image_id"]}'
    if annotation['id'] in seen:
        yield AnnotationFault('ids', f'{name}: another annotation has this id')
    seen.add(annotation['id'])
    box = annotation['bbox']
    if not isinstance(box, list) or len(box) != 4 or not all(_finite(side) for side in box):
        yield AnnotationFault(
            'bbox', f'{name}: bbox={box!r:.80} must be four finite numbers, [x, y, width, height] in pixels'
        )
    if not _finite(annotation['area']):
        yield AnnotationFault('area', f'{name}: area={annotation["area"]!r:.80} must be a finite number of pixels')
    for flag in ('iscrowd', 'ignore'):  # mmdet treats nan as true, and COCO's evaluation fails on it
        if annotation.get(flag) not in (None, 0, 1):
            yield AnnotationFault(flag, f'{name}: {flag}={annotation[flag]!r:.80} must be 0 or 1')
    mask = annotation.get('segmentation')
    if with_mask and not mask and not annotation.get('ignore'):
        yield AnnotationFault(
            'missing masks',
            f'{name}: it has no segmentation, but the run uses masks: with_mask=True of LoadAnnotations, or '
            "metric='segm' of the evaluator",
        )
    fault = _find_mask_fault(mask, images.get(annotation['image_id'], {}))
    if fault:
        yield AnnotationFault('segmentation', f'{name}: {fault}')
    elif fault := find_polygon_fault(mask):
        yield AnnotationFault('polygons', f'{name}: {fault}', 'error' if with_mask else 'warning')


def _find_mask_fault(mask: Any, image: dict[str, Any]) -> str | None:
    if mask is None:
        return None
    if isinstance(mask, list):
        wrong = next((p for p in mask if not isinstance(p, list) or not all(_finite(number) for number in p)), None)
        return None if wrong is None else f'segmentation has a polygon that is no list of finite numbers, {wrong!r:.80}'
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


def find_polygon_fault(mask: Any) -> str | None:
    """Find an invalid polygon: mmdet omits it in training, and COCO's evaluation fails or treats it as empty.

    Args:
        mask: The ``segmentation`` of an annotation.

    Returns:
        str, optional: What is wrong; None for valid polygons and for other masks.
    """
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
