"""Reads folders of images: a folder per class, and a folder per split above these where there are splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.images import SUFFIXES, list_files, read_size
from protuning_mm.conversion.splits import find_split
from protuning_mm.data.errors import DataError


@dataclass
class ClassData:
    """What is found of a data set of class folders.

    Args:
        classes (list[str]): Names of the classes, in the order of their labels.
        splits (dict[str, list[tuple[Path, str]]]): Images and names of their classes.
    """

    classes: list[str]
    splits: dict[str, list[tuple[Path, str]]]


def find_class_folders(source: Path) -> dict[str, dict[str, Path]]:
    """Return the folder of each class of each split; empty if the folders do not hold images."""
    inner = _folders(source)
    splits = {split: folder for folder in inner if (split := find_split(folder.name)) and _folders(folder)}
    levels = splits or {'train': source}
    found = {name: {each.name: each for each in _folders(folder)} for name, folder in levels.items()}
    return found if any(list_files(each, SUFFIXES) for classes in found.values() for each in classes.values()) else {}


def _folders(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith('.'))


def read_class_folders(source: Path, names: Sequence[str], findings: Findings) -> ClassData:
    """Read folders of images.

    Args:
        source (Path): The folder.
        names (Sequence[str]): Names of the classes to use; empty for all that have training images.
        findings (Findings): Is told of what is odd.

    Raises:
        DataError: there are no images.
    """
    folders = find_class_folders(source)
    if not folders:
        raise DataError(f'{source}: there are no folders of images, one per class')
    classes = list(names) or list(folders.get('train') or next(iter(folders.values())))
    splits: dict[str, list[tuple[Path, str]]] = {}
    for split, found in folders.items():
        for name, folder in found.items():
            images = list_files(folder, SUFFIXES)
            if name not in classes:
                findings.add(f'{split} images of other classes', 'left out', name, len(images))
                continue
            if not images:
                findings.add(f'{split} folders without an image', 'left as they are', name)
            splits.setdefault(split, []).extend((path, name) for path in images if read_size(path, findings))
    return ClassData(classes, splits)
