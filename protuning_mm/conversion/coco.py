"""Reads files in COCO's layout, with any names and any splits."""

from pathlib import Path
from typing import Any

from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.images import ImageFinder, find_root, read_size
from protuning_mm.conversion.json_files import find_json, read_json
from protuning_mm.conversion.objects import AnnotatedImage, AnnotatedObject, BoxData
from protuning_mm.conversion.splits import find_split, find_split_of_path
from protuning_mm.data.errors import DataError

_LOOKED_AT = 100  # annotations; captions have no boxes


def find_coco(source: Path) -> list[Path]:
    """Return the files in COCO's layout that have boxes, below a folder."""
    return find_json(source, _has_boxes)


def _has_boxes(content: Any) -> bool:
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ('images', 'annotations')
    ):
        return False
    return 'categories' in content and any('bbox' in each for each in content['annotations'][:_LOOKED_AT])


def read_coco(source: Path, findings: Findings) -> BoxData:
    """Read files in COCO's layout; images are found by their names, wherever below the folder they lie.

    Raises:
        DataError: several files are of one split.
    """
    root = find_root(source)
    files: dict[str, Path] = {}
    for path in find_coco(source):
        split = find_split(path.stem) or find_split_of_path(path, root) or 'train'
        if split in files:
            raise DataError(
                f'{files[split]} and {path} are both of the split {split}: move one of them away, or name the file to '
                'convert in place of the folder'
            )
        files[split] = path
    finder, classes, splits = ImageFinder(root), dict[str, None](), {}
    for split, path in files.items():
        content = read_json(path)
        names = {each.get('id'): str(each.get('name')) for each in content['categories']}
        classes.update(dict.fromkeys(names[key] for key in sorted(names, key=lambda key: (str(type(key)), key))))
        splits[split] = _read_images(content, names, path, split, finder, findings)
    return BoxData(list(classes), splits)


def _read_images(
    content: dict[str, Any], names: dict[Any, str], path: Path, split: str, finder: ImageFinder, findings: Findings
) -> list[AnnotatedImage]:
    found: dict[Any, AnnotatedImage] = {}
    images: set[Path] = set()
    missing = set()
    for each in content['images']:
        identity, name = each.get('id'), str(each.get('file_name'))
        if identity in found or identity in missing:
            findings.add('images with the id of another', 'left out', f'{path.name}: id {identity}')
            continue
        image = finder.find(name, path, split)
        size = None if image is None else read_size(image, findings)
        if image is None or size is None or image in images:
            missing.add(identity)
            if image is None:
                findings.add('images that are listed, but not found', 'left out', name)
            elif image in images:
                findings.add('images that are listed twice', 'the first is kept', name)
            continue
        if (each.get('width'), each.get('height')) != size:
            written = f'{each.get("width")}×{each.get("height")}, but is {size[0]}×{size[1]}'
            findings.add('images of another size than written', 'the size of the file is taken', f'{name}: {written}')
        images.add(image)
        found[identity] = AnnotatedImage(image, size)
    ids = set()
    for each in content['annotations']:
        identity = f'{path.name}: annotation {each.get("id")}'
        if each.get('image_id') not in found:
            if each.get('image_id') not in missing:
                findings.add('annotations of images that are not listed', 'left out', identity)
            continue
        if each.get('category_id') not in names:
            findings.add('annotations of unknown categories', 'left out', identity)
            continue
        if not _is_box(each.get('bbox')):
            findings.add('annotations without a box of four numbers', 'left out', identity)
            continue
        if each.get('id') in ids:
            findings.add('annotations with the id of another', 'numbered anew', identity)
        ids.add(each.get('id'))
        left, top, width, height = each['bbox']
        found[each['image_id']].objects.append(
            AnnotatedObject(
                names[each['category_id']],
                (float(left), float(top), float(left + width), float(top + height)),
                _segmentation(each, identity, findings),
                bool(each.get('iscrowd')),
            )
        )
    return list(found.values())


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)


def _segmentation(annotation: dict[str, Any], identity: str, findings: Findings) -> Any:
    found = annotation.get('segmentation')
    if not found:
        return None
    if isinstance(found, dict):
        if 'counts' in found and 'size' in found:
            return found
    elif isinstance(found, list):
        polygons = found if isinstance(found[0], list) else [found]
        kept = [each for each in polygons if len(each) >= 6 and len(each) % 2 == 0]
        if len(kept) < len(polygons):
            findings.add('polygons of fewer than three corners', 'left out', identity)
        if kept:
            return kept
    findings.add('masks that are neither polygons nor run lengths', 'left out', identity)
    return None
