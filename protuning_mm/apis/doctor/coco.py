"""Annotations in COCO's layout: boxes, masks and sizes against the images."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protuning_mm.apis.doctor.findings import Finding, Findings
from protuning_mm.apis.doctor.images import ABSENT, examine_images, some
from protuning_mm.apis.doctor.labels import examine_maps
from protuning_mm.apis.doctor.problems import Kind, Problems
from protuning_mm.datasets.annotations import faults_of_categories
from protuning_mm.datasets.files import unknown_categories

NOT_FINITE = Kind('error', 'boxes are not four finite numbers', 'mend the annotations')
TOO_SMALL = Kind('warning', 'boxes have no area, or a side below 1: mmdet drops them', 'mend or delete them')
OUTSIDE = Kind('warning', 'boxes reach out of their image', 'clip them: bbox is [x, y, width, height] in pixels')
NO_IMAGE = Kind('warning', 'annotations belong to an image_id that no image has', 'mend image_id')
NO_CATEGORY = Kind('warning', 'annotations have a category_id that no category has', 'mend category_id')
NO_MASK = Kind(
    'error',
    'objects have no mask, and the pipeline asks for masks: its first batch with one stops',
    "add their 'segmentation', delete them, or LoadAnnotations(with_mask=False) with a head of boxes alone",
)
EMPTY_MASK = Kind('warning', 'masks are empty', 'mend or delete them')
OTHER_SIZE = Kind(
    'error', 'images have another size on disk than height and width in the annotations', 'write the size of the file'
)
SAME_ID = Kind('error', "annotation ids are not unique: mmdet's CocoDataset refuses them", 'number them anew')
_TOLERANCE = 1.0  # pixels; annotation tools round


def examine_coco(
    key: str,
    dataset: dict[str, Any],
    content: dict[str, Any],
    path: Path,
    classes: Any,
    stuff_classes: int | None,
    max_images: int | None,
) -> Findings:
    """Examine a data set in COCO's layout.

    Args:
        key (str): Its key in the config.
        dataset (dict): Its config.
        content (dict): What is in its annotation file.
        path (Path): That file.
        classes (Sequence[str], optional): The classes that it is to have.
        stuff_classes (int, optional): Classes of its stuff maps.
        max_images (int, optional): How many images are decoded at the most.
    """
    wrong = unknown_categories(classes, content, path) if classes is not None else None
    if wrong:
        yield Finding('error', f'{key}.metainfo.classes', *wrong)
    elif classes is not None:
        yield from _order(key, classes, content)
    for fault in faults_of_categories(content['categories'], classes):
        yield Finding('error', f'{key}.ann_file', fault, 'mend the categories')
    problems, images = Problems(key), list(content['images'])
    root, prefix = Path(dataset.get('data_root') or ''), dict(dataset.get('data_prefix') or {})
    paths = {image['id']: root / prefix.get('img', '') / _file_name(image) for image in images}
    with_mask = any(step.get('with_mask') for step in dataset.get('pipeline') or ())
    _examine_annotations(content, with_mask, problems)
    chosen = some(images, max_images)
    sizes = examine_images([paths[image['id']] for image in chosen], problems)
    for image in chosen:
        size = sizes.get(paths[image['id']])
        if size is not None and size != (image['height'], image['width']):
            found = f'{size[0]}x{size[1]} on disk, {image["height"]}x{image["width"]} listed'
            problems.note(OTHER_SIZE, f'{paths[image["id"]]} ({found})')
    looked_at = {image['id'] for image in chosen}
    for image in images:  # the others at least have to be there
        if image['id'] not in looked_at and not paths[image['id']].is_file():
            problems.note(ABSENT, str(paths[image['id']]))
    if prefix.get('seg'):
        pairs = []
        for image in chosen:
            name = _file_name(image).rsplit('.', 1)[0] + dataset.get('seg_map_suffix', '.png')
            pairs.append((paths[image['id']], root / prefix['seg'] / name))
        examine_maps(pairs, sizes, stuff_classes, problems)
    yield from problems.findings()
    bare = len(images) - len({annotation.get('image_id') for annotation in content['annotations']})
    said = f'{len(images)} images ({len(chosen)} decoded), {len(content["annotations"])} objects'
    yield Finding('info', key, said + (f'; {bare} images without any' if bare > 0 else ''))


def _order(key: str, classes: Sequence[str], content: dict[str, Any]) -> Findings:
    """Compare the order of the classes with the file's, which is the one that mmdet numbers labels by."""
    there = [category.get('name') for category in content['categories'] if category.get('name') in classes]
    if there == list(classes) or len(there) != len(classes):
        return
    i = next(i for i, (name, class_) in enumerate(zip(there, classes)) if name != class_)
    yield Finding(
        'warning',
        f'{key}.metainfo.classes',
        f"class {i} is {classes[i]!r}, but mmdet numbers classes in the annotation file's order, where it is "
        f'{there[i]!r}: what is learned is right, and drawn and listed under wrong names',
        f'classes=({", ".join(map(repr, there[:6]))}{", …" if len(there) > 6 else ""})',
    )


def _file_name(image: dict[str, Any]) -> str:
    # LVIS has none, and mmdet takes the last two parts of the address
    return str(image.get('file_name') or '/'.join(str(image.get('coco_url')).split('/')[-2:]))


def _examine_annotations(content: dict[str, Any], with_mask: bool, problems: Problems) -> None:
    images = {image['id']: image for image in content['images']}
    categories = {category['id'] for category in content.get('categories', ())}
    for each, count in Counter(annotation.get('id') for annotation in content['annotations']).items():
        if count > 1:
            problems.note(SAME_ID, f'id {each}')
    for annotation in content['annotations']:
        image = images.get(annotation.get('image_id'))
        name = f'annotation {annotation.get("id")}'
        if image is None:
            problems.note(NO_IMAGE, name)
            continue
        name += f' of {_file_name(image)}'
        if annotation.get('category_id') not in categories:
            problems.note(NO_CATEGORY, name)
        kind = _fault_of_box(annotation.get('bbox'), annotation.get('area', 1), image)
        if kind is not None:
            problems.note(kind, f'{name} {annotation.get("bbox")}')
        if kind in (NOT_FINITE, TOO_SMALL) or not with_mask:
            continue
        if not annotation.get('segmentation'):
            problems.note(NO_MASK, name)
        elif mask_area(annotation['segmentation']) <= 0:
            problems.note(EMPTY_MASK, name)


def _fault_of_box(box: Any, area: Any, image: dict[str, Any]) -> Kind | None:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(side) for side in box):
        return NOT_FINITE
    x, y, w, h = box
    if w < 1 or h < 1 or not _is_finite(area) or area <= 0:
        return TOO_SMALL
    right, bottom = image['width'] + _TOLERANCE, image['height'] + _TOLERANCE
    return OUTSIDE if min(x, y) < -_TOLERANCE or x + w > right or y + h > bottom else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def mask_area(segmentation: Any) -> float:
    """The area of a mask: polygons, or run lengths as numbers or compressed text."""
    if isinstance(segmentation, list):
        return sum(_polygon_area(polygon) for polygon in segmentation)
    counts = segmentation['counts']
    if isinstance(counts, list):
        return sum(counts[1::2])
    from pycocotools import mask as coco_mask

    return float(coco_mask.area(segmentation))


def _polygon_area(polygon: Sequence[float]) -> float:
    if len(polygon) < 6:
        return 0.0
    xs, ys = polygon[0::2], polygon[1::2]
    turned = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]])
    return abs(sum(x * following_y - following_x * y for x, y, following_x, following_y in turned)) / 2
