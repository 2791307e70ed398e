"""Reads tables of boxes: CSV files with a row per box."""

import csv
from collections.abc import Mapping
from pathlib import Path

from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.images import ImageFinder, find_root, list_files, read_size
from protuning_mm.conversion.objects import AnnotatedImage, AnnotatedObject, BoxData
from protuning_mm.conversion.splits import find_split, find_split_of_path
from protuning_mm.data.errors import DataError

# the columns that are read, by the names that tools give them
_COLUMNS = {
    'image': ('filename', 'file_name', 'image', 'image_path', 'img', 'file', 'path', 'imageid', 'image_id'),
    'name': ('class', 'label', 'name', 'category', 'class_name', 'labelname'),
    'left': ('xmin', 'x1', 'x_min', 'left'),
    'top': ('ymin', 'y1', 'y_min', 'top'),
    'right': ('xmax', 'x2', 'x_max', 'right'),
    'bottom': ('ymax', 'y2', 'y_max', 'bottom'),
    'split': ('split', 'set', 'subset'),
}
_SIDES = ('left', 'top', 'right', 'bottom')
_WITHOUT_HEADER = ('image', *_SIDES, 'name')  # as RetinaNet's CSV files


def find_tables(source: Path) -> list[Path]:
    """Return the CSV files of boxes below a folder."""
    files = [source] if source.suffix.lower() == '.csv' else list_files(source, frozenset({'.csv'}))
    return [path for path in files if _find_columns(_read_rows(path)[:1])]


def _read_rows(path: Path) -> list[list[str]]:
    with path.open(newline='', encoding='utf-8-sig') as file:
        return [row for row in csv.reader(file) if row]


def _find_columns(rows: list[list[str]]) -> dict[str, int]:
    """Return the position of each column; empty if the rows are no table of boxes."""
    if not rows:
        return {}
    header = [name.strip().lower() for name in rows[0]]
    found = {
        key: next(header.index(name) for name in names if name in header)
        for key, names in _COLUMNS.items()
        if any(name in header for name in names)
    }
    if found.keys() >= {'image', 'name', *_SIDES}:
        return found
    if len(header) == len(_WITHOUT_HEADER) and all(_is_number(word) or not word for word in header[1:5]):
        return {key: i for i, key in enumerate(_WITHOUT_HEADER)}
    return {}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_tables(source: Path, findings: Findings) -> BoxData:
    """Read CSV files with a row per box, with the corners in pixels, or as fractions of the image's size.

    A row without corners is an image without objects.
    """
    root = find_root(source)
    finder, names = ImageFinder(root), set()
    splits: dict[str, dict[Path, AnnotatedImage | None]] = {}
    for path in find_tables(source):
        rows = _read_rows(path)
        columns = _find_columns(rows)
        body = rows[1:] if not _is_number(rows[0][columns['left']] or '0') else rows
        relative = _are_fractions(body, columns)
        if relative:
            findings.add('tables of fractions', "multiplied by the images' sizes", path.name)
        for number, row in enumerate(body, 1 + len(rows) - len(body)):
            where = f'{path.name}, line {number}'
            if len(row) <= max(columns.values()):
                findings.add('rows that are too short', 'left out', where)
                continue
            cells = {key: row[i].strip() for key, i in columns.items()}
            split = find_split(cells.get('split', '')) or find_split(path.stem) or find_split_of_path(path, root)
            images = splits.setdefault(split or 'train', {})
            image = finder.find(cells['image'], path, split)
            if image is None:
                findings.add('images that are listed, but not found', 'left out', cells['image'])
                continue
            if image not in images:
                size = read_size(image, findings)
                images[image] = None if size is None else AnnotatedImage(image, size)
            found = images[image]
            if found is not None and any(cells[side] for side in _SIDES):
                each = _read_object(cells, found.size if relative else (1, 1))
                if each is None:
                    findings.add('rows without a class or with corners that are no numbers', 'left out', where)
                else:
                    found.objects.append(each)
                    names.add(each.name)
    if not splits:
        raise DataError(f'{source}: there is no CSV file with columns such as {",".join(_WITHOUT_HEADER)}')
    return BoxData(sorted(names), {key: [each for each in images.values() if each] for key, images in splits.items()})


def _are_fractions(rows: list[list[str]], columns: Mapping[str, int]) -> bool:
    """Return whether no corner is beyond 1, and some are no whole numbers."""
    corners = [row[columns[side]] for row in rows for side in _SIDES if len(row) > columns[side]]
    values = [float(each) for each in corners if _is_number(each)]
    return bool(values) and max(values) <= 1 and any(value % 1 for value in values)


def _read_object(cells: Mapping[str, str], scale: tuple[int, int]) -> AnnotatedObject | None:
    if not cells['name'] or not all(_is_number(cells[side]) for side in _SIDES):
        return None
    left, top, right, bottom = (float(cells[side]) for side in _SIDES)
    width, height = scale
    return AnnotatedObject(cells['name'], (left * width, top * height, right * width, bottom * height))
