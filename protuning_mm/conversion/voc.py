"""Reads data sets in Pascal VOC's layout: an XML file per image."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.images import ImageFinder, list_files, read_size
from protuning_mm.conversion.objects import AnnotatedImage, BoxData
from protuning_mm.conversion.splits import by_split, find_split_of_path, read_split_lists
from protuning_mm.conversion.supervised import read_voc_object
from protuning_mm.data.errors import DataError


def find_voc(source: Path) -> list[tuple[Path, Element]]:
    """Return the annotation files of Pascal VOC below a folder, with their content."""
    from defusedxml.ElementTree import parse

    found = []
    for path in list_files(source, frozenset({'.xml'})):
        try:
            root = parse(path).getroot()
        except ParseError as error:
            raise DataError(f'{path} is no XML: {error}') from None
        if root is not None and root.tag == 'annotation':
            found.append((path, root))
    return found


def read_voc(source: Path, findings: Findings) -> BoxData:
    """Read a data set in Pascal VOC's layout; ``difficult`` objects are ignored in training and evaluation.

    Raises:
        DataError: there is no annotation file, or one is no XML.
    """
    finder = ImageFinder(source)
    lists = read_split_lists(sorted(source.rglob('ImageSets/Main')))
    names: set[str] = set()
    items = []
    for path, root in find_voc(source):
        image = finder.find(root.findtext('filename') or path.stem, path) or finder.find(path.stem, path)
        size = None if image is None else read_size(image, findings)
        if image is None or size is None:
            if image is None:
                findings.add('annotation files without an image', 'left out', path.name)
            continue
        found = AnnotatedImage(image, size)
        for node in root.findall('object'):
            try:
                found.objects.append(read_voc_object(node, size))
            except ValueError:
                findings.add('objects without a name or a box', 'left out', path.name)
        ignored = sum(each.ignored for each in found.objects)
        if ignored:
            findings.add('difficult objects', 'ignored in training and evaluation', path.name, ignored)
        names.update(each.name for each in found.objects)
        split = lists.find(path) or find_split_of_path(path, source)
        if lists and split is None:
            findings.add('images in none of the lists of ImageSets', 'left out', image.name)
            continue
        items.append((split, found))
    return BoxData(sorted(names), by_split(items))
