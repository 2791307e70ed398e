"""Reads files of LabelMe: a JSON file of shapes per image."""

from functools import partial
from pathlib import Path

from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.images import ImageFinder, find_root, read_size
from protuning_mm.conversion.json_files import find_json, read_json
from protuning_mm.conversion.objects import AnnotatedImage, BoxData
from protuning_mm.conversion.splits import by_split, find_split_of_path
from protuning_mm.conversion.supervised import read_labelme_shapes


def find_labelme(source: Path) -> list[Path]:
    """Return the files of LabelMe below a folder."""
    return find_json(source, lambda content: isinstance(content, dict) and 'shapes' in content)


def read_labelme(source: Path, findings: Findings) -> BoxData:
    """Read files of LabelMe: rectangles and polygons; other shapes are left out."""
    names: set[str] = set()
    root, items = find_root(source), []
    finder = ImageFinder(root)
    for path in find_labelme(source):
        content = read_json(path)
        image = finder.find(str(content.get('imagePath') or path.stem), path) or finder.find(path.stem, path)
        size = None if image is None else read_size(image, findings)
        if image is None or size is None:
            if image is None:
                findings.add('annotation files without an image', 'left out', path.name)
            continue
        found = AnnotatedImage(image, size)
        try:
            found.objects += read_labelme_shapes(content['shapes'], size, partial(_add_skipped, findings, path.name))
        except ValueError as error:
            findings.add('files with a shape that cannot be read', 'left out', f'{path.name}: {error}')
            continue
        names.update(each.name for each in found.objects)
        items.append((find_split_of_path(path, root), found))
    return BoxData(sorted(names), by_split(items))


def _add_skipped(findings: Findings, name: str, text: str) -> None:
    findings.add(text, 'left out', name)
