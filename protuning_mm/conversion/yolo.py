"""Reads data sets of YOLO: ``data.yaml``, and a text file of boxes or polygons per image."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.images import SUFFIXES, list_files, read_size
from protuning_mm.conversion.objects import AnnotatedImage, BoxData
from protuning_mm.conversion.supervised import read_yolo_line
from protuning_mm.data.errors import DataError

_SPLITS = {'train': 'train', 'val': 'val', 'valid': 'val', 'test': 'test'}


def find_yolo(source: Path) -> Path | None:
    """Return the file of a YOLO data set that names its classes and splits; None if there is none."""
    files = [source] if source.is_file() else sorted([*source.glob('*.yaml'), *source.glob('*.yml')])
    return next((path for path in files if path.suffix in ('.yaml', '.yml') and 'names' in _read_yaml(path)), None)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise DataError(f'{path} is no YAML: {str(error).splitlines()[0]}') from None
    return content if isinstance(content, dict) else {}


def read_yolo(source: Path, findings: Findings) -> BoxData:
    """Read a data set of YOLO: ``data.yaml``, and a label file beside or in parallel to each image.

    Raises:
        DataError: ``data.yaml`` is missing, or names no classes or no images.
    """
    path = find_yolo(source)
    if path is None:
        raise DataError(f'{source}: there is no data.yaml with names and the folders of train and val')
    content = _read_yaml(path)
    names = content['names']
    classes = _read_names(names, path)
    if content.get('nc', len(classes)) != len(classes):
        findings.add(f'nc={content["nc"]}, but {len(classes)} names', 'the names count', path.name)
    base = path.parent / str(content.get('path') or '')
    base = base if base.is_dir() else path.parent
    splits = {}
    for key, split in _SPLITS.items():
        written = content.get(key) or []
        images = [
            image for each in ([written] if isinstance(written, str) else written) for image in _yolo_images(base, each)
        ]
        if images:
            boxes_only = bool(content.get('kpt_shape'))
            splits[split] = [
                each for image in images if (each := _read_yolo_image(image, classes, boxes_only, findings))
            ]
    if not splits:
        raise DataError(f'{path}: none of the folders of train, val and test has an image; looked below {base}')
    return BoxData(classes, splits)


def _read_names(names: Any, path: Path) -> list[str]:
    """Return the names of the classes, in the order of their numbers.

    Raises:
        DataError: there are no names, or numbers are missing.
    """
    if isinstance(names, Mapping) and names:
        numbered = {str(key): str(name) for key, name in names.items()}
        if set(numbered) == {str(i) for i in range(len(numbered))}:
            return [numbered[str(i)] for i in range(len(numbered))]
    elif isinstance(names, list) and names:
        return [str(name) for name in names]
    raise DataError(f'{path}: names={names!r:.80} must be a list of names, or number them 0, 1, 2, … without a gap')


def _normal(path: Path) -> Path:
    """Remove ``..`` from a path without following links."""
    return Path(os.path.normpath(path))


def _yolo_images(base: Path, written: str) -> list[Path]:
    path = _normal(base / written)
    if not path.exists() and written.startswith('../'):  # Roboflow counts from the folder of a training script
        path = _normal(base / written.removeprefix('../'))
    if path.is_dir():
        return list_files(path, SUFFIXES)
    if path.is_file():
        return [_normal(path.parent / line.strip()) for line in path.read_text().splitlines() if line.strip()]
    raise DataError(f'data.yaml names {written!r}, but there is no {path}')


def _read_yolo_image(image: Path, classes: list[str], boxes_only: bool, findings: Findings) -> AnnotatedImage | None:
    if not image.is_file():
        findings.add('images that are listed, but not found', 'left out', image.name)
        return None
    size = read_size(image, findings)
    if size is None:
        return None
    found, labels = AnnotatedImage(image, size), _yolo_labels(image)
    for number, line in enumerate(labels.read_text().splitlines() if labels.is_file() else (), 1):
        if line.strip():
            if boxes_only:  # what follows are key points
                line = ' '.join(line.split()[:5])
            try:
                found.objects.append(read_yolo_line(line, size, classes))
            except ValueError as error:
                findings.add(_reason('lines', error), 'left out', f'{labels.name}, line {number}')
    return found


def _yolo_labels(image: Path) -> Path:
    """Return the label file of an image: in ``labels`` in place of the last ``images``, or beside it."""
    parts = list(image.parts)
    if 'images' in parts:
        parts[len(parts) - 1 - parts[::-1].index('images')] = 'labels'
        return Path(*parts).with_suffix('.txt')
    return image.with_suffix('.txt')


def _reason(what: str, error: ValueError) -> str:
    message = str(error)
    return f'{what} of unknown classes ({message})' if message.startswith('class ') else f'{what} that cannot be read'
