"""Annotated objects, and their file in COCO's layout."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from protuning_mm.conversion.findings import Findings

Box = tuple[float, float, float, float]
_LEAST = 1.0  # pixels; what is at most as wide or high is no object
_TOLERANCE = 1.0  # pixels by which tools round beyond an image


@dataclass(frozen=True)
class AnnotatedObject:
    """An object in an image.

    Args:
        name (str): Name of its class.
        box (tuple[float]): Left, top, right and bottom in pixels.
        segmentation (list | dict, optional): Polygons or a run-length encoding, as in COCO. Defaults to None.
        ignored (bool): Whether training and evaluation leave it out, as COCO's crowds. Defaults to False.
    """

    name: str
    box: Box
    segmentation: Any = None
    ignored: bool = False


@dataclass
class AnnotatedImage:
    """An image and its objects.

    Args:
        path (Path): The image.
        size (tuple[int, int]): Width and height in pixels.
        objects (list[AnnotatedObject]): Its objects.
    """

    path: Path
    size: tuple[int, int]
    objects: list[AnnotatedObject] = field(default_factory=list)


@dataclass
class BoxData:
    """What a reader of boxes finds.

    Args:
        classes (list[str]): Names of the classes, in the order of their labels.
        splits (dict[str, list[AnnotatedImage]]): The images of each split.
    """

    classes: list[str]
    splits: dict[str, list[AnnotatedImage]]

    @property
    def masks(self) -> bool:
        """Whether an object has a mask."""
        return any(each.segmentation for images in self.splits.values() for image in images for each in image.objects)


def encode_mask(mask: Any) -> dict[str, Any]:
    """Encode a mask, an array of shape (H, W), by run lengths."""
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=[int(side) for side in encoded['size']], counts=encoded['counts'].decode())


def write_coco(
    path: Path, images: Sequence[AnnotatedImage], root: Path, classes: Sequence[str], masks: bool, findings: Findings
) -> int:
    """Write images and objects in COCO's layout.

    Args:
        path (Path): The file to write.
        images (Sequence[AnnotatedImage]): The images.
        root (Path): The folder that the images' names are relative to.
        classes (Sequence[str]): The classes; objects of others are left out.
        masks (bool): Whether to write masks. An object without one gets its box as a mask.
        findings (Findings): Is told of objects that are odd.

    Returns:
        int: Number of objects.
    """
    labels = {name: i for i, name in enumerate(classes)}
    content: dict[str, list[dict[str, Any]]] = dict(
        images=[], annotations=[], categories=[dict(id=i, name=name) for name, i in labels.items()]
    )
    for number, image in enumerate(images):
        width, height = image.size
        name = image.path.relative_to(root).as_posix()
        content['images'].append(dict(id=number, file_name=name, width=width, height=height))
        seen = set()
        for each in image.objects:
            if each.name not in labels:
                findings.add('objects of other classes', 'left out', each.name)
                continue
            box = _clip(each.box, image, findings)
            if box is None or (each.name, box, each.segmentation is None) in seen:
                if box is not None:
                    findings.add('boxes that are given twice', 'kept once', image.path.name)
                continue
            if each.segmentation is None:
                seen.add((each.name, box, True))
            content['annotations'].append(
                dict(
                    id=len(content['annotations']) + 1,  # 0 is "no object" to COCO's evaluation
                    image_id=number,
                    category_id=labels[each.name],
                    iscrowd=int(each.ignored),
                    **_shape(each, box, image, masks, findings),
                )
            )
        if not image.objects:
            findings.add('images without an object', 'kept', image.path.name)
    path.write_text(json.dumps(content))
    return len(content['annotations'])


def _clip(box: Box, image: AnnotatedImage, findings: Findings) -> Box | None:
    """Clip a box to its image; None if it has no area there."""
    left, top, right, bottom = box
    width, height = image.size
    if not np.isfinite(box).all():
        findings.add('boxes that are not finite numbers', 'left out', image.path.name)
        return None
    if right < left or bottom < top:
        findings.add('boxes with left and right, or top and bottom, exchanged', 'put in order', image.path.name)
        left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
    if right - left <= _LEAST or bottom - top <= _LEAST:
        findings.add('boxes of at most one pixel in width or height', 'left out', image.path.name)
        return None
    clipped = max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
    if clipped[2] - clipped[0] <= _LEAST or clipped[3] - clipped[1] <= _LEAST:
        findings.add('boxes outside of their image', 'left out', image.path.name)
        return None
    if max(abs(a - b) for a, b in zip(clipped, (left, top, right, bottom))) > _TOLERANCE:
        findings.add('boxes that reach beyond their image', 'clipped', image.path.name)
    return clipped


def _shape(each: AnnotatedObject, box: Box, image: AnnotatedImage, masks: bool, findings: Findings) -> dict[str, Any]:
    left, top, right, bottom = (round(side, 3) for side in box)
    found: dict[str, Any] = dict(bbox=[left, top, round(right - left, 3), round(bottom - top, 3)])
    area = found['bbox'][2] * found['bbox'][3]
    if masks:
        segmentation = each.segmentation
        if not segmentation:
            findings.add('objects without a mask', 'their box is their mask', image.path.name)
            segmentation = [[left, top, right, top, right, bottom, left, bottom]]
        found['segmentation'] = segmentation
        area = float(np.sum(coco_mask.area(_encode(segmentation, image.size))))
    return found | dict(area=area)


def _encode(segmentation: Any, size: tuple[int, int]) -> Any:
    width, height = size
    if isinstance(segmentation, dict) and isinstance(segmentation['counts'], str):
        return segmentation
    encoded = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.merge(encoded) if isinstance(encoded, list) else encoded
