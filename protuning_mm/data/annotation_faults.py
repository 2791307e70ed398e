"""Faults in an annotation file in COCO's layout: which entry is wrong, and what would be right."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

_LARGEST = 1e7  # pixels
_REQUIRED = ('id', 'image_id', 'category_id', 'bbox', 'area')
_CORNERS = 3  # the fewest corners of a polygon
_INTEGERS = 'integers, written as 1 and not as 1.0 (pandas: df[column].astype(int))'

Fault = tuple[str, str]  # kind and message


@dataclass(frozen=True)
class AnnotationFault:
    """A wrong entry of an annotation file.

    Args:
        kind (str): The wrong part of the entry, such as ``'bbox'`` or ``'polygons'``.
        message (str): The entry's id, what was found, and what would be right.
        level (str): ``'error'`` if the run would stop or learn something wrong, ``'warning'`` if it does not use the
            wrong part.
        entry: The entry itself.
    """

    kind: str
    message: str
    level: Literal['error', 'warning']
    entry: Any


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
    images: dict[Any, Any] = {}
    seen: set[Any] = set()
    checks: dict[str, Callable[[Any], Iterator[Fault]]] = {
        'categories': lambda category: _check_category(category, classes, names, ids),
        'images': lambda image: _check_image(image, images),
        'annotations': lambda annotation: _check_annotation(annotation, images, seen, with_mask),
    }
    for part, check in checks.items():
        for entry in content[part]:
            for kind, message in check(entry):
                unused = kind == 'polygons' and not with_mask
                yield AnnotationFault(kind, message, 'warning' if unused else 'error', entry)


def _check_category(category: Any, classes: Any, names: dict[str, Any], ids: dict[Any, str]) -> Iterator[Fault]:
    """Also find two categories of one name or id: mmdet numbers both, so all later labels are off by one."""
    if not isinstance(category, dict) or not {'id', 'name'} <= set(category):
        yield 'categories', f'category {category!r:.80}: id and name are required'
        return
    identity, name = category['id'], str(category['name'])
    if not isinstance(identity, int | str):
        yield 'ids', f'category {name!r}: id={identity!r:.80}: ids must be {_INTEGERS}'
        return
    if classes is not None and name not in classes:
        return
    if name in names:
        yield (
            'categories',
            f'category id {identity}: id {names[name]} has the same name, {name!r}: mmdet would count two classes, '
            'and all later labels would be wrong. Use one id or two names',
        )
    if identity in ids:
        yield 'categories', f'category id {identity} ({name!r}): {ids[identity]!r} has the same id'
    names.setdefault(name, identity)
    ids.setdefault(identity, name)


def _check_image(image: Any, seen: dict[Any, Any]) -> Iterator[Fault]:
    if not isinstance(image, dict) or 'id' not in image or not (image.get('file_name') or image.get('coco_url')):
        yield 'images', f'image {image!r:.80}: id and file_name are required'
        return
    name = f'image id {image["id"]!r:.80} ({image.get("file_name")!r})'
    if not isinstance(image['id'], int | str):
        yield 'ids', f'{name}: ids must be {_INTEGERS}'
        return
    if not all(_finite(image.get(side)) and image[side] > 0 for side in ('height', 'width')):
        found = f'height={image.get("height")!r}, width={image.get("width")!r}'
        yield 'height and width', f'{name}: {found}: must be positive numbers'
    if image['id'] in seen:
        yield 'ids', f'{name}: another image has this id'
    seen[image['id']] = image


def _check_annotation(annotation: Any, images: dict[Any, Any], seen: set[Any], with_mask: bool) -> Iterator[Fault]:
    if not isinstance(annotation, dict) or not set(_REQUIRED) <= set(annotation):
        yield 'missing parts', f'annotation {annotation!r:.80}: {", ".join(_REQUIRED)} are required'
        return
    wrong = [key for key in ('id', 'image_id', 'category_id') if not isinstance(annotation[key], int | str)]
    if wrong:
        found = ', '.join(f'{key}={annotation[key]!r:.80}' for key in wrong)
        yield 'ids', f'annotation id {annotation["id"]!r:.80}: {found}: ids must be {_INTEGERS}'
        return
    name = f'annotation id {annotation["id"]} of image id {annotation["image_id"]}'
    if annotation['id'] in seen:
        yield 'ids', f'{name}: another annotation has this id'
    seen.add(annotation['id'])
    box = annotation['bbox']
    if not _are_finite(box) or len(box) != 4:
        yield 'bbox', f'{name}: bbox={box!r:.80} must be four finite numbers, [x, y, width, height] in pixels'
    if not _finite(annotation['area']):
        yield 'area', f'{name}: area={annotation["area"]!r:.80} must be a finite number of pixels'
    for flag in ('iscrowd', 'ignore'):  # mmdet treats nan as true, and COCO's evaluation fails on it
        if annotation.get(flag) not in (None, 0, 1):
            yield flag, f'{name}: {flag}={annotation[flag]!r:.80} must be 0 or 1'
    mask = annotation.get('segmentation')
    if with_mask and not mask and not annotation.get('ignore'):
        yield (
            'missing masks',
            f'{name}: it has no segmentation, but the run uses masks: with_mask=True of LoadAnnotations, or '
            "metric='segm' of the evaluator",
        )
    if fault := _find_mask_fault(mask, images.get(annotation['image_id'], {})):
        kind, found = fault
        yield kind, f'{name}: segmentation{found}'


def _find_mask_fault(mask: Any, image: dict[str, Any]) -> Fault | None:
    if mask is None:
        return None
    if isinstance(mask, list):
        return _find_polygon_fault(mask)
    size: Any = mask.get('size') if isinstance(mask, dict) else None
    if not _are_finite(size) or len(size) != 2 or 'counts' not in mask:
        return 'segmentation', f'={mask!r:.80} must be polygons, or a dict of counts and size'
    height, width, counts = image.get('height'), image.get('width'), mask['counts']
    if image and size != [height, width]:
        return 'segmentation', f'.size={size}, but its image is {height}x{width} (height x width)'
    if not isinstance(counts, list):  # compressed
        return None
    if not _are_finite(counts) or min(counts, default=0) < 0 or sum(counts) != size[0] * size[1]:
        return 'segmentation', f'.counts must be run lengths that add up to {size[0]} x {size[1]}'
    return None


def _find_polygon_fault(polygons: list[Any]) -> Fault | None:
    """Find an invalid polygon: mmdet omits it in training, and COCO's evaluation fails or treats it as empty."""
    for polygon in polygons:
        if not _are_finite(polygon):
            return 'segmentation', f' has a polygon that is no list of finite numbers, {polygon!r:.80}'
    for polygon in polygons:
        if len(polygon) % 2:
            return 'polygons', f' has a polygon of {len(polygon)} numbers, {polygon!r:.80}: x and y alternate'
        if len(polygon) < 2 * _CORNERS:
            points = 'one point' if len(polygon) == 2 else f'{len(polygon) // 2} points'
            return 'polygons', f' has a polygon of {points}, {polygon!r:.80}: it needs {_CORNERS} or more'
    return None


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _LARGEST


def _are_finite(values: Any) -> bool:
    return isinstance(values, list) and all(map(_finite, values))
