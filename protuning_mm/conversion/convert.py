"""Converts data sets as annotation tools write them to what the hosts read."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from protuning_mm.conversion.class_folders import find_class_folders, read_class_folders
from protuning_mm.conversion.coco import find_coco, read_coco
from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.images import find_root
from protuning_mm.conversion.json_files import read_json
from protuning_mm.conversion.label_maps import find_map_folders, read_maps, write_map
from protuning_mm.conversion.labelme import find_labelme, read_labelme
from protuning_mm.conversion.objects import BoxData, write_coco
from protuning_mm.conversion.splits import draw_val
from protuning_mm.conversion.table import find_tables, read_tables
from protuning_mm.conversion.voc import find_voc, read_voc
from protuning_mm.conversion.yolo import find_yolo, read_yolo
from protuning_mm.data.data_folder import NAME, SPLITS, DataFolder, Split
from protuning_mm.data.errors import DataError

# formats of boxes: what finds their files, and what reads them. The order is that in which a folder is tried.
_BOXES: dict[str, tuple[Callable[[Path], Any], Callable[[Path, Findings], BoxData]]] = {
    'yolo': (find_yolo, read_yolo),
    'coco': (find_coco, read_coco),
    'labelme': (find_labelme, read_labelme),
    'voc': (find_voc, read_voc),
    'csv': (find_tables, read_tables),
}
_FOUND_BY: dict[str, Callable[[Path], Any]] = {
    **{name: found for name, (found, _) in _BOXES.items()},
    'label-maps': find_map_folders,
    'class-folders': find_class_folders,
}
FORMATS = tuple(_FOUND_BY)
Item = TypeVar('Item')


def convert_data(
    source: str | Path,
    out: str | Path,
    *,
    kind: str | None = None,
    classes: Sequence[str] = (),
    val: float = 0.2,
    seed: int = 0,
) -> tuple[DataFolder, Findings]:
    """Convert a data set; its images stay where they are.

    Args:
        source (str | Path): The data set's folder, or its file of annotations.
        out (str | Path): A new folder, or one that an earlier conversion wrote, which is replaced.
        kind (str, optional): One of :data:`FORMATS`. Defaults to None: found from the files.
        classes (Sequence[str]): The classes, in the order of their labels; objects and images of others are left out.
            Defaults to those of the data.
        val (float): Share of the training images to take for validation if the data have no split for it. Defaults
            to 0.2.
        seed (int): Seed of this draw. Defaults to 0.

    Returns:
        tuple: The folder, and what was odd in the data.

    Raises:
        DataError: the data cannot be read, have no training images, or ``out`` holds something else.
    """
    written, source, out = str(source), Path(source).expanduser(), Path(out).expanduser()
    if not source.exists():
        raise DataError(f'{written!r} does not exist in {Path.cwd()}')
    source = source.absolute()
    if source.resolve().is_relative_to(out.resolve()):
        raise DataError(f'{written!r} lies in {str(out)!r}, which the conversion writes: name another folder to write')
    if out.exists() and not (out / NAME).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f'{str(out)!r} exists and was not written by a conversion: name a new folder')
    read_json.cache_clear()  # the files may have changed since an earlier conversion
    kind = kind or _find_kind(source)
    partial = out.with_name(f'{out.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        findings = Findings()
        folder = _convert(source, partial, out, kind, tuple(classes), val, seed, findings)
        folder.write()
        _replace(out, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return DataFolder(**{**vars(folder), 'path': out}), findings


def _replace(out: Path, partial: Path) -> None:
    """Replace what an earlier conversion has written; other files in the folder stay."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (NAME, 'labels', *(f'{split}.{suffix}' for split in SPLITS for suffix in ('json', 'txt'))):
        if (out / name).is_dir():
            shutil.rmtree(out / name)
        else:
            (out / name).unlink(missing_ok=True)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == NAME):  # the description last
        path.rename(out / path.name)


def _find_kind(source: Path) -> str:
    for name, find in _FOUND_BY.items():
        if (source.is_dir() or name in _BOXES) and find(source):
            return name
    found = sorted(path.name for path in source.iterdir())[:8] if source.is_dir() else [source.name]
    raise DataError(
        f'{str(source)!r}: no format is recognized; found {", ".join(found) or "nothing"}. Known are: '
        "YOLO (data.yaml with names, train and val), COCO's JSON files, LabelMe's JSON files, Pascal VOC's XML files, "
        'CSV files with a row per box, folders of images and of PNG label maps, and a folder of images per class'
    )


def _convert(
    source: Path,
    folder: Path,
    final: Path,
    kind: str,
    classes: tuple[str, ...],
    val: float,
    seed: int,
    findings: Findings,
) -> DataFolder:
    root = find_root(source)
    images = os.path.relpath(root.resolve(), final.resolve())

    def finish(splits: dict[str, list[Item]]) -> dict[str, list[Item]]:
        if not splits.get('train'):
            raise DataError(
                f'{str(source)!r}: as {kind}, it has no training images' + ''.join(f'\n  {line}' for line in findings)
            )
        splits = draw_val(splits, val, seed, findings)
        return {name: splits[name] for name in SPLITS if splits.get(name)}

    written: dict[str, Split] = {}
    if kind == 'label-maps':
        maps = read_maps(source, classes, findings)
        for name, pairs in finish(maps.splits).items():
            kept = [
                image
                for image, path in pairs
                if write_map(path, image, folder / 'labels' / f'{image.relative_to(root)}.png', maps, findings)
            ]
            written[name] = _write_list(folder, name, images, [image.relative_to(root).as_posix() for image in kept])
        if not written['train'].count:
            raise DataError(f'{str(source)!r}: no training image is left' + ''.join(f'\n  {line}' for line in findings))
        palette = None if maps.palette is None else tuple(maps.palette)
        return DataFolder(folder, 'segmentation', tuple(maps.classes), written, palette=palette)
    if kind == 'class-folders':
        found = read_class_folders(source, classes, findings)
        labels = {name: i for i, name in enumerate(found.classes)}
        for name, items in finish(found.splits).items():
            lines = [f'{path.relative_to(root).as_posix()} {labels[label]}' for path, label in items]
            written[name] = _write_list(folder, name, images, lines)
        return DataFolder(folder, 'classification', tuple(found.classes), written)
    boxes = _BOXES[kind][1](source, findings)
    names = classes or tuple(boxes.classes)
    for name, annotated in finish(boxes.splits).items():
        outside = [each.path for each in annotated if not each.path.is_relative_to(root)]
        if outside:
            raise DataError(f'{outside[0]} is not below {root}: name the folder that holds the images, too')
        number = write_coco(folder / f'{name}.json', annotated, root, names, boxes.masks, findings)
        if name == 'train' and not number:
            raise DataError(
                f'{str(source)!r}: no object of the classes {", ".join(names) or "(none)"} can be trained on'
            )
        written[name] = Split(images, f'{name}.json', len(annotated))
    return DataFolder(folder, 'detection', names, written, masks=boxes.masks)


def _write_list(folder: Path, name: str, images: str, lines: list[str]) -> Split:
    (folder / f'{name}.txt').write_text(''.join(f'{line}\n' for line in lines))
    return Split(images, f'{name}.txt', len(lines))
