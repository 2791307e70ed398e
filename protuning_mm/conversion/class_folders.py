"""Reads folders of images: a folder per class, and a folder per split above these where there are splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.images import SUFFIXES, is_own, list_files, read_size
from protuning_mm.conversion.splits import find_split
from protuning_mm.data.errors import DataError

# folders of other formats, which hold images of all classes
_NO_CLASSES = ('images', 'labels', 'annotations', 'jpegimages', 'masks', 'img_dir', 'ann_dir', 'imgs')


@dataclass
class ClassData:
    """What is found of a data set of class folders.

    Args:
        classes (list[str]): Names of the classes, in the order of their labels.
        splits (dict[str, list[tuple[Path, str]]]): Images and names of their classes.
    """

    classes: list[str]
    splits: dict[str, list[tuple[Path, str]]]


def find_class_folders(source: Path) -> dict[str, dict[str, list[Path]]]:
    """Return the folders of each class of each split; empty if there are not two folders with images."""
    inner = _folders(source)
    found: dict[str, dict[str, list[Path]]] = {}
    for folder in [each for each in inner if find_split(each.name) and _folders(each)] or [source]:
        classes = found.setdefault('train' if folder == source else find_split(folder.name) or 'train', {})
        for each in _folders(folder):
            if list_files(each, SUFFIXES):
                classes.setdefault(each.name, []).append(each)
    names = {name for classes in found.values() for name in classes}
    return found if len(names) > 1 and not any(name.lower() in _NO_CLASSES for name in names) else {}


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not is_own(each))


def read_class_folders(source: Path, names: Sequence[str], findings: Findings) -> ClassData:
    """Read folders of images.

    Args:
        source (Path): The folder.
        names (Sequence[str]): Names of the classes to use; empty for all with training images.
        findings (Findings): Is told of what is odd.

    Raises:
        DataError: there are no two folders with images.
    """
    folders = find_class_folders(source)
    if not folders:
        raise DataError(f'{source}: there are no two folders of images, one per class')
    classes = list(names) or list(folders.get('train') or next(iter(folders.values())))
    splits: dict[str, list[tuple[Path, str]]] = {}
    for split, found in folders.items():
        for name, parts in found.items():
            images = [path for part in parts for path in list_files(part, SUFFIXES)]
            if name not in classes:
                findings.add(f'{split} images of other classes', 'left out', name, len(images))
                continue
            splits.setdefault(split, []).extend((path, name) for path in images if read_size(path, findings))
    return ClassData(classes, splits)
