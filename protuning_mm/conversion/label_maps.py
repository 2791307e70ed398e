"""Converts label maps, PNG files of indices or colours, to maps of indices."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.images import ImageFinder, list_files, read_size
from protuning_mm.conversion.splits import by_split, find_split_of_path, read_split_lists
from protuning_mm.data.data_folder import IGNORED
from protuning_mm.data.errors import DataError

# folders in which tools write label maps, and images
_MAP_FOLDERS = (
    'labels', 'masks', 'annotations', 'ann_dir', 'SegmentationClass', 'gtFine', 'gt', 'label', 'mask', 'labelmaps'
)  # fmt: skip
_IMAGE_FOLDERS = ('images', 'img_dir', 'JPEGImages', 'leftImg8bit', 'imgs', 'img', 'image')
# what tools append to an image's name for its label map; of 'leftImg8bit', what Cityscapes appends to the image's
_ENDINGS = ('', '_mask', '-mask', '_label', '_labels', '_gt', '_L', '_seg', '_gtFine_labelIds', '_labelIds')
_BINARY = ['background', 'foreground']
_CLASS_FILES = ('class_dict.csv', 'labelmap.txt', 'label_colors.txt', 'classes.txt', 'labels.txt', 'codes.txt')

Colour = tuple[int, int, int]
_Classes = tuple[list[str], list[Colour] | None, Mapping[Any, int]]  # classes, palette, label of each value


@dataclass
class MapData:
    """What is found of a data set of label maps.

    Args:
        classes (list[str]): Names of the classes, in the order of their indices.
        palette (list[tuple[int, int, int]], optional): Colours of the classes, if the maps are colours.
        labels (dict): Label of each value of the maps, an index or a colour; other values are ignored.
        splits (dict[str, list[tuple[Path, Path]]]): Image and label map of each split.
    """

    classes: list[str]
    palette: list[Colour] | None
    labels: Mapping[Any, int]
    splits: dict[str, list[tuple[Path, Path]]]


def find_map_folders(source: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of label maps; None if there are none."""
    images, maps = (
        next((source / name for name in names if (source / name).is_dir()), None)
        for names in (_IMAGE_FOLDERS, _MAP_FOLDERS)
    )
    if images is None or maps is None or not list_files(maps, frozenset({'.png'})):
        return None
    return images, maps


def read_maps(source: Path, names: Sequence[str], findings: Findings) -> MapData:
    """Find images and label maps, and the classes of the maps.

    Args:
        source (Path): The folder.
        names (Sequence[str]): Names of the classes; empty to read them from a file of the folder, or from the maps.
        findings (Findings): Is told of what is odd.

    Raises:
        DataError: there are no label maps.
    """
    folders = find_map_folders(source)
    if folders is None:
        raise DataError(
            f'{source}: there are no label maps; images must lie in one of the folders {", ".join(_IMAGE_FOLDERS)}, '
            f'and PNG maps of the same names in one of {", ".join(_MAP_FOLDERS)}'
        )
    images, maps = folders
    finder, paths = ImageFinder(images), list_files(maps, frozenset({'.png'}))
    lists = read_split_lists([*sorted(source.rglob('ImageSets/Segmentation')), *sorted(source.rglob('splits')), source])
    pairs, used = [], set()
    for path in paths:
        image = _find_image(finder, path)
        if image is None:
            findings.add('label maps without an image', 'left out', path.name)
            continue
        used.add(image)
        split = lists.find(image) or find_split_of_path(path, source)
        if lists and split is None:
            findings.add('images in none of the lists of splits', 'left out', image.name)
            continue
        pairs.append((split, (image, path)))
    without = [path for path in finder.paths if path not in used]
    if without:
        findings.add('images without a label map', 'left out', without[0].name, len(without))
    classes, palette, labels = _find_classes(source, [path for _, (_, path) in pairs], names, findings)
    return MapData(classes, palette, labels, by_split(pairs))


def _find_image(finder: ImageFinder, path: Path) -> Path | None:
    for ending in _ENDINGS:
        if path.stem.endswith(ending):
            stem = path.stem.removesuffix(ending)
            for name in (stem, f'{stem}_leftImg8bit'):
                image = finder.find(name, path)
                if image is not None:
                    return image
    return None


def _find_classes(source: Path, maps: Sequence[Path], names: Sequence[str], findings: Findings) -> _Classes:
    """Find the classes of maps, and the label of each value.

    Raises:
        DataError: there are no maps, too many values, or names that do not fit them.
    """
    if not maps:
        raise DataError(
            f'{source}: no label map has the name of an image' + ''.join(f'\n  {line}' for line in findings)
        )
    written, values = _read_class_file(source), set[Any]()
    for path in maps:
        values |= _values(_read_map(path))
    if any(isinstance(value, tuple) and len(set(value)) > 1 for value in values):
        return _name_colours(source, values, written, names, findings)
    values = {value[0] if isinstance(value, tuple) else value for value in values}  # indices, maybe as grey colours
    if values == {0, IGNORED} and len(names or written or _BINARY) == len(_BINARY):
        classes = list(names or written or _BINARY)
        findings.add('maps of 0 and 255', f'255 is the class "{classes[1]}"', maps[0].name, len(maps))
        return classes, None, {0: 0, IGNORED: 1}
    if written and names:
        unknown = [name for name in names if name not in written]
        if unknown:
            raise DataError(f'{source}: its file of classes has no {unknown[0]!r}; it has {", ".join(written)}')
        return list(names), None, {list(written).index(name): i for i, name in enumerate(names)}
    classes = list(names) or list(written)
    if not classes:
        highest = max((value for value in values if value != IGNORED), default=0)
        if highest >= IGNORED:
            raise DataError(
                f'{source}: the maps have values up to {highest}; label maps have at most {IGNORED} classes'
            )
        classes = [f'class_{i}' for i in range(highest + 1)]
        findings.add('classes without a name', 'numbered; name them with --classes', f'0 to {highest}', highest + 1)
    return classes, None, {i: i for i in range(len(classes))}


def _name_colours(
    source: Path,
    values: set[Any],
    written: Mapping[str, Colour | None],
    names: Sequence[str],
    findings: Findings,
) -> _Classes:
    colours = {name: colour for name, colour in written.items() if colour is not None}
    if not colours:
        found = sorted(value for value in values if isinstance(value, tuple))
        if len(found) > IGNORED:
            raise DataError(f'{source}: the maps have {len(found)} colours; label maps have at most {IGNORED} classes')
        if names and len(names) != len(found):
            raise DataError(f'{source}: the maps have {len(found)} colours, {found[:4]} …, but {len(names)} names')
        findings.add('colours without a name', 'numbered in order', ', '.join(map(str, found[:3])), len(found))
        colours = dict(zip(names or [f'colour_{r}_{g}_{b}' for r, g, b in found], found, strict=True))
    classes = list(names) or list(colours)
    unknown = [name for name in classes if name not in colours]
    if unknown:
        raise DataError(f'{source}: its file of classes has no colour of {unknown[0]!r}; it has {", ".join(colours)}')
    palette = [colours[name] for name in classes]
    return classes, palette, {colour: i for i, colour in enumerate(palette)}


def _read_class_file(source: Path) -> dict[str, Colour | None]:
    """Read names of classes, and their colours if the file has them."""
    path = next((source / name for name in _CLASS_FILES if (source / name).is_file()), None)
    if path is None:
        return {}
    found: dict[str, Colour | None] = {}
    for line in path.read_text().splitlines():
        words = next(csv.reader([line.strip().replace(':', ',').replace('\t', ',')]), [])
        if not words or words[0].startswith('#') or words[0].lower() == 'name':
            continue
        if len(words) == 1 and path.name == 'label_colors.txt':
            words = line.split()
        numbers = [int(word) for word in words if word.strip().isdigit()][:3]
        name = next((word.strip() for word in words if word.strip() and not word.strip().isdigit()), None)
        if name is not None:
            found[name] = (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 else None
    return found


def _read_map(path: Path) -> Any:
    """Read a label map: an array (H, W) of indices, or (H, W, 3) of colours."""
    try:
        with Image.open(path) as image:
            if image.mode == '1':
                image = image.convert('L')
            found = np.asarray(image.convert('RGB') if image.mode in ('RGBA', 'LA') else image)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f'{path} cannot be read: {error}') from None
    return found


def _values(found: Any) -> set[Any]:
    if found.ndim == 2:
        return {int(value) for value in np.unique(found)}
    return {tuple(int(part) for part in colour) for colour in np.unique(found.reshape(-1, 3), axis=0)}


def write_map(path: Path, image: Path, out: Path, data: MapData, findings: Findings) -> bool:
    """Write a label map as a PNG of indices, with 255 where no class is known.

    Args:
        path (Path): The label map.
        image (Path): Its image.
        out (Path): The file to write.
        data (MapData): The classes.
        findings (Findings): Is told of what is odd.

    Returns:
        bool: Whether it was written: not if the map has another size than the image.
    """
    size = read_size(image, findings)
    if size is None:
        return False
    found = _read_map(path)
    if found.shape[1::-1] != size:
        findings.add('label maps of another size than their image', 'left out', path.name)
        return False
    labels, known = np.full(found.shape[:2], IGNORED, np.uint8), data.labels
    if found.ndim == 3 and data.palette is None:
        found = found[..., 0]
    for value, label in known.items():
        labels[found == value if found.ndim == 2 else (found == np.array(value)).all(axis=2)] = label
    for value in sorted(_values(found) - known.keys() - {IGNORED}, key=str):
        findings.add(f'maps with the value {value}, which is no class', 'ignored there: 255', path.name)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(out)
    return True
