"""Annotations in COCO's layout: boxes, masks and sizes against the images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protuning_mm.data.annotation_faults import AnnotationFault, find_annotation_faults
from protuning_mm.data.annotations import explain_nothing_to_learn
from protuning_mm.data.classes import explain_unknown_categories
from protuning_mm.doctor.findings import Finding, Findings, Level
from protuning_mm.doctor.images import ABSENT, compare_size, examine_images, some
from protuning_mm.doctor.labels import examine_maps
from protuning_mm.doctor.problems import Kind, Problems

TOO_SMALL = Kind('warning', 'boxes have no area, or a side below 1: mmdet drops them', 'mend or delete them')
OUTSIDE = Kind('warning', 'boxes reach out of their image', 'clip them: bbox is [x, y, width, height] in pixels')
NO_IMAGE = Kind('warning', 'annotations belong to an image_id that no image has', 'mend image_id')
NO_CATEGORY = Kind('warning', 'annotations have a category_id that no category has', 'mend category_id')
EMPTY_MASK = Kind('warning', 'masks are empty', 'mend or delete them')
COMPLETED = Kind(
    'info',
    "annotations have no iscrowd, or an id of 0: these tools evaluate them with iscrowd=0 and ids from 1, mmdet's own "
    'stop at the first and count the second as missed',
    "to use other tools too, write 'iscrowd': 0, and ids from 1",
)
_TOLERANCE = 1.0  # pixels; annotation tools round


def examine_coco(
    key: str,
    dataset: dict[str, Any],
    content: dict[str, Any],
    path: Path,
    classes: Any,
    with_mask: bool,
    stuff_classes: int | None,
    max_images: int | None,
) -> Findings:
    """Examine a data set in COCO's layout.

    Args:
        key (str): Its key in the config.
        dataset (dict): Its config.
        content (dict): What is in its annotation file, in COCO's layout.
        path (Path): That file.
        classes (Sequence[str], optional): The classes that it is to have.
        with_mask (bool): Whether the run uses masks.
        stuff_classes (int, optional): Classes of its stuff maps.
        max_images (int, optional): How many images are decoded at the most.
    """
    problems, faults = Problems(key), list(find_annotation_faults(content, classes, with_mask))
    for fault in faults:
        problems.note(_kind(fault), fault.message)
    if not any(fault.kind == 'categories' for fault in faults) and classes is not None:
        wrong = explain_unknown_categories(classes, content, path)
        yield from [Finding('error', f'{key}.metainfo.classes', *wrong)] if wrong else _order(key, classes, content)
    if not any(fault.level == 'error' for fault in faults) and (lacks := explain_nothing_to_learn(content, classes)):
        level: Level = 'error' if key.startswith('train') else 'warning'
        yield Finding(level, f'{key}.ann_file', f'{str(path)!r} {lacks}', 'mend the annotations or the classes')
    faulty = {id(fault.entry) for fault in faults}
    images = [image for image in content['images'] if id(image) not in faulty]
    annotations = [annotation for annotation in content['annotations'] if id(annotation) not in faulty]
    root, prefix = Path(dataset.get('data_root') or ''), dict(dataset.get('data_prefix') or {})
    paths = {image['id']: root / prefix.get('img', '') / _file_name(image) for image in images}
    _examine_annotations(content, annotations, faulty, with_mask, problems)
    chosen = some(images, max_images)
    sizes = examine_images([paths[image['id']] for image in chosen], problems)
    for image in chosen:
        size = sizes.get(paths[image['id']])
        if size is not None:
            compare_size(paths[image['id']], size, image, problems)
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
    bare = len(images) - len({annotation['image_id'] for annotation in annotations})
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


def _kind(fault: AnnotationFault) -> Kind:
    """Faults are counted by kind."""
    used = 'cannot be used' if fault.level == 'error' else 'are wrong, but this run does not use that part of them'
    return Kind(fault.level, f'entries of the annotations {used} ({fault.kind})', 'mend or delete them')


def _examine_annotations(
    content: dict[str, Any], annotations: list[dict[str, Any]], faulty: set[int], with_mask: bool, problems: Problems
) -> None:
    images = {image['id']: image for image in content['images'] if id(image) not in faulty}
    categories = {category['id'] for category in content['categories'] if id(category) not in faulty}
    whole = len(images) == len(content['images'])
    for annotation in annotations:
        image = images.get(annotation['image_id'])
        name = f'annotation {annotation["id"]}'
        if annotation.get('iscrowd') is None or annotation['id'] == 0:
            problems.note(COMPLETED, name)
        if image is None:
            if whole:
                problems.note(NO_IMAGE, name)
            continue
        name += f' of {_file_name(image)}'
        if annotation['category_id'] not in categories:
            problems.note(NO_CATEGORY, name)
        kind = _fault_of_box(annotation['bbox'], annotation['area'], image)
        if kind is not None:
            problems.note(kind, f'{name} {annotation["bbox"]}')
        mask = annotation.get('segmentation')
        if kind is not TOO_SMALL and with_mask and mask and mask_area(mask) <= 0:
            problems.note(EMPTY_MASK, name)


def _fault_of_box(box: list[float], area: float, image: dict[str, Any]) -> Kind | None:
    x, y, w, h = box
    if w < 1 or h < 1 or area <= 0:
        return TOO_SMALL
    right, bottom = image['width'] + _TOLERANCE, image['height'] + _TOLERANCE
    return OUTSIDE if min(x, y) < -_TOLERANCE or x + w > right or y + h > bottom else None


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
