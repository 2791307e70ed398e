"""Checks data sets in COCO's layout: boxes, masks, image sizes and classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from protuning_mm.data.annotation_faults import AnnotationFault, find_annotation_faults
from protuning_mm.data.annotations import explain_nothing_to_learn, read_annotations
from protuning_mm.data.classes import explain_unknown_categories, find_classes
from protuning_mm.data.data_files import uses_masks
from protuning_mm.data.errors import DataError
from protuning_mm.doctor.fault_counts import FaultCounts, FaultKind
from protuning_mm.doctor.findings import Finding, Findings, Level
from protuning_mm.doctor.images import check_images, pick_evenly
from protuning_mm.doctor.label_maps import check_label_maps
from protuning_mm.doctor.training_setup import TrainingSetup

TOO_SMALL = FaultKind('warning', 'boxes have no area, or a side below 1: mmdet drops them', 'correct or delete them')
OUTSIDE = FaultKind('warning', 'boxes extend beyond their image', 'clip them: bbox is [x, y, width, height] in pixels')
NO_IMAGE = FaultKind('warning', 'annotations have an image_id that no image has', 'correct image_id')
NO_CATEGORY = FaultKind('warning', 'annotations have a category_id that no category has', 'correct category_id')
EMPTY_MASK = FaultKind('warning', 'masks are empty', 'correct or delete them')
COMPLETED = FaultKind(
    'info',
    "annotations have no iscrowd, or an id of 0: these tools evaluate them with iscrowd=0 and ids from 1; mmdet's own "
    'tools stop at a missing iscrowd and count the annotation with id 0 as missed',
    "for other tools, write 'iscrowd': 0, and ids from 1",
)
_TOLERANCE = 1.0  # pixels; annotation tools round


def check_coco_dataset(
    setup: TrainingSetup, key: str, dataset: dict[str, Any], path: Path, max_images: int | None
) -> Findings:
    """Check a data set in COCO's layout.

    Args:
        setup (TrainingSetup): The config, with its model if it could be built.
        key (str): Config key of the data set.
        dataset (dict): Config of the data set.
        path (Path): Path of the annotation file.
        max_images (int, optional): Number of images to decode. Defaults to all.
    """
    try:
        content = read_annotations(path, key)
    except DataError as error:
        where = f'{key}.ann_file'
        yield Finding('error', where, str(error).removeprefix(f'{where}: '), 'copy or create the file again')
        return
    classes, with_mask = find_classes(dataset, setup.scope), uses_masks(setup.cfg, key, dataset)
    counts, faults = FaultCounts(key), list(find_annotation_faults(content, classes, with_mask))
    for fault in faults:
        counts.add(_fault_kind(fault), fault.message)
    if not any(fault.kind == 'categories' for fault in faults) and classes is not None:
        unknown = explain_unknown_categories(classes, content, path)
        if unknown:
            yield Finding('error', f'{key}.metainfo.classes', *unknown)
        else:
            yield from _check_order(key, classes, content)
    if not any(fault.level == 'error' for fault in faults) and (reason := explain_nothing_to_learn(content, classes)):
        level: Level = 'error' if key.startswith('train') else 'warning'
        yield Finding(level, f'{key}.ann_file', f'{str(path)!r} {reason}', 'correct the annotations or the classes')
    faulty = {id(fault.entry) for fault in faults}
    images = [image for image in content['images'] if id(image) not in faulty]
    annotations = [annotation for annotation in content['annotations'] if id(annotation) not in faulty]
    root, prefix = Path(dataset.get('data_root') or ''), dict(dataset.get('data_prefix') or {})
    files = [(root / prefix.get('img', '') / _file_name(image), image) for image in images]
    _check_annotations(content, annotations, faulty, with_mask, counts)
    chosen = pick_evenly(files, max_images)
    sizes = check_images(files, chosen, counts)
    if prefix.get('seg'):
        suffix = dataset.get('seg_map_suffix', '.png')
        maps = [root / prefix['seg'] / (_file_name(image).rsplit('.', 1)[0] + suffix) for _, image in chosen]
        roi_head = getattr(setup.model, 'roi_head', None)
        stuff = getattr(getattr(roi_head, 'semantic_head', None), 'num_classes', None)
        check_label_maps([(image, map_) for (image, _), map_ in zip(chosen, maps)], sizes, stuff, counts)
    yield from counts.findings()
    empty = len(images) - len({annotation['image_id'] for annotation in annotations})
    found = f'{len(images)} images ({len(chosen)} decoded), {len(content["annotations"])} objects'
    yield Finding('info', key, found + (f'; {empty} images without objects' if empty > 0 else ''))


def _check_order(key: str, classes: Sequence[str], content: dict[str, Any]) -> Findings:
    """Compare the order of the classes with the order in the file, by which mmdet numbers the labels."""
    in_file = [category.get('name') for category in content['categories'] if category.get('name') in classes]
    if in_file == list(classes) or len(in_file) != len(classes):
        return
    i = next(i for i, (name, class_) in enumerate(zip(in_file, classes)) if name != class_)
    yield Finding(
        'warning',
        f'{key}.metainfo.classes',
        f'class {i} is {classes[i]!r} here and {in_file[i]!r} in the annotation file, whose order mmdet uses to number '
        'labels: training is not affected, but results are drawn and listed under wrong names',
        f'classes=({", ".join(map(repr, in_file[:6]))}{", …" if len(in_file) > 6 else ""})',
    )


def _file_name(image: dict[str, Any]) -> str:
    # LVIS has no file_name; mmdet uses the last two parts of the URL
    return str(image.get('file_name') or '/'.join(str(image.get('coco_url')).split('/')[-2:]))


def _fault_kind(fault: AnnotationFault) -> FaultKind:
    problem = 'cannot be used' if fault.level == 'error' else 'are wrong in a part that this run does not use'
    return FaultKind(fault.level, f'entries of the annotations {problem} ({fault.kind})', 'correct or delete them')


def _check_annotations(
    content: dict[str, Any], annotations: list[dict[str, Any]], faulty: set[int], with_mask: bool, counts: FaultCounts
) -> None:
    images = {image['id']: image for image in content['images'] if id(image) not in faulty}
    categories = {category['id'] for category in content['categories'] if id(category) not in faulty}
    all_images_valid = len(images) == len(content['images'])
    for annotation in annotations:
        image = images.get(annotation['image_id'])
        name = f'annotation {annotation["id"]}'
        if annotation.get('iscrowd') is None or annotation['id'] == 0:
            counts.add(COMPLETED, name)
        if image is None:
            if all_images_valid:
                counts.add(NO_IMAGE, name)
            continue
        name += f' of {_file_name(image)}'
        if annotation['category_id'] not in categories:
            counts.add(NO_CATEGORY, name)
        kind = _box_fault(annotation['bbox'], annotation['area'], image)
        if kind is not None:
            counts.add(kind, f'{name} {annotation["bbox"]}')
        mask = annotation.get('segmentation')
        if kind is not TOO_SMALL and with_mask and mask and compute_mask_area(mask) <= 0:
            counts.add(EMPTY_MASK, name)


def _box_fault(box: list[float], area: float, image: dict[str, Any]) -> FaultKind | None:
    x, y, w, h = box
    if w < 1 or h < 1 or area <= 0:
        return TOO_SMALL
    right, bottom = image['width'] + _TOLERANCE, image['height'] + _TOLERANCE
    return OUTSIDE if min(x, y) < -_TOLERANCE or x + w > right or y + h > bottom else None


def compute_mask_area(segmentation: Any) -> float:
    """Compute the area of a mask in pixels.

    Args:
        segmentation (list | dict): Polygons, or a run-length encoding, compressed or not.
    """
    if isinstance(segmentation, list):
        return sum(cv2.contourArea(np.array(polygon, np.float32).reshape(-1, 2)) for polygon in segmentation)
    from pycocotools import mask as coco_mask

    if isinstance(segmentation['counts'], list):
        segmentation = coco_mask.frPyObjects(segmentation, *segmentation['size'])
    return float(coco_mask.area(segmentation))
