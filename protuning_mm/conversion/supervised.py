"""What the library supervision reads: lines of YOLO, objects of Pascal VOC and shapes of LabelMe."""

import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any
from xml.etree.ElementTree import Element

from protuning_mm.conversion.objects import AnnotatedObject, encode_mask
from protuning_mm.data.errors import DataError

_BOX_WORDS = 6  # a line of YOLO with more is a polygon


def _formats() -> ModuleType:
    try:
        import supervision.dataset.formats as formats
        from supervision.dataset.formats import labelme, pascal_voc, yolo  # noqa: F401
    except ImportError as error:
        raise DataError(
            f"YOLO, Pascal VOC and LabelMe are read by the library supervision: pip install 'protuning_mm[data]' "
            f'({error})'
        ) from None
    return formats


def read_yolo_line(line: str, size: tuple[int, int], classes: Sequence[str]) -> AnnotatedObject:
    """Read a line of a YOLO label file: a box or a polygon.

    Raises:
        ValueError: the line cannot be read, or its class does not exist.
    """
    with_masks = len(line.split()) > _BOX_WORDS
    found = _formats().yolo.yolo_annotations_to_detections([line], size, with_masks)
    label = int(found.class_id[0])
    if not 0 <= label < len(classes):
        raise ValueError(f'class {label}, but there are {len(classes)}')
    return _objects(found, classes)[0]


def read_voc_object(node: Element, size: tuple[int, int]) -> AnnotatedObject:
    """Read an ``object`` of a Pascal VOC file.

    Raises:
        ValueError: its name or box is missing or is no number.
    """
    root = Element('annotation')
    root.append(node)
    found, classes = _formats().pascal_voc.detections_from_xml_obj(root, [], size)
    return _objects(found, classes, ignored=(node.findtext('difficult') or '0').strip() == '1')[0]


def read_labelme_shapes(
    shapes: list[dict[str, Any]], size: tuple[int, int], warn: Callable[[str], None]
) -> list[AnnotatedObject]:
    """Read the shapes of a LabelMe file.

    Args:
        shapes (list[dict]): The shapes.
        size (tuple[int, int]): Width and height of the image.
        warn (Callable): Is called with what supervision says of shapes that it leaves out.

    Raises:
        ValueError: a shape has no label or no points.
    """
    classes = sorted({str(shape['label']) for shape in shapes if shape.get('label') is not None})
    named = [shape | dict(label=str(shape['label'])) if shape.get('label') is not None else shape for shape in shapes]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        found = _formats().labelme.labelme_shapes_to_detections(
            named,
            {name: i for i, name in enumerate(classes)},
            size,
            with_masks=any(shape.get('shape_type') == 'polygon' for shape in shapes),
        )
    for each in caught:
        warn(str(each.message))
    return _objects(found, classes)


def _objects(found: Any, classes: Sequence[str], ignored: bool = False) -> list[AnnotatedObject]:
    masks = [None] * len(found) if found.mask is None else [encode_mask(mask) for mask in found.mask]
    return [
        AnnotatedObject(
            classes[int(label)], (float(box[0]), float(box[1]), float(box[2]), float(box[3])), mask, ignored
        )
        for label, box, mask in zip(found.class_id, found.xyxy, masks)
    ]
