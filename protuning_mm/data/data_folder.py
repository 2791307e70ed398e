"""The description of a folder of data: its task, its classes and its splits.

``protuning data convert`` writes it, as ``dataset.json``; a config names the folder as ``data='…'``.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from protuning_mm.data.errors import DataError

NAME = 'dataset.json'
IGNORED = 255  # where a label map has no class
TASKS = ('detection', 'segmentation', 'classification')
SPLITS = ('train', 'val', 'test')
_VERSION = 1


@dataclass(frozen=True)
class Split:
    """The files of a split, relative to the folder.

    Args:
        images (str): Folder of the images.
        annotations (str): Detection: a file in COCO's layout. Segmentation: a list of images. Classification: a list
            of images and labels. The images of a list are relative to ``images``.
        count (int): Number of images.
    """

    images: str
    annotations: str
    count: int


@dataclass(frozen=True)
class DataFolder:
    """A folder that ``protuning data convert`` has written.

    Args:
        path (Path): The folder.
        task (str): ``'detection'``, ``'segmentation'`` or ``'classification'``.
        classes (tuple[str]): Names of the classes, in the order of their labels.
        splits (dict[str, Split]): ``train``, and ``val`` and ``test`` where they exist.
        masks (bool): Whether the objects of a detection data set have masks. Defaults to False.
        palette (tuple, optional): A colour per class, three numbers from 0 to 255. Defaults to None.
    """

    path: Path
    task: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    masks: bool = False
    palette: tuple[tuple[int, int, int], ...] | None = None

    def images(self, split: str) -> str:
        """Return the absolute path of a split's images."""
        return str((self.path / self.splits[split].images).resolve())

    def annotations(self, split: str) -> str:
        """Return the absolute path of a split's annotations."""
        return str((self.path / self.splits[split].annotations).resolve())

    def write(self) -> None:
        """Write the description into the folder."""
        content = asdict(self) | dict(version=_VERSION)
        del content['path']
        (self.path / NAME).write_text(json.dumps(content, indent=2) + '\n')


def read_data_folder(path: str | Path) -> DataFolder:
    """Read the description of a folder of data.

    Args:
        path (str | Path): A folder that ``protuning data convert`` has written.

    Raises:
        DataError: the folder does not exist, or has no description that can be read.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DataError(f'data={str(path)!r}: there is no such folder in {Path.cwd()}')
    try:
        content: dict[str, Any] = json.loads((folder / NAME).read_text())
    except FileNotFoundError:
        raise DataError(
            f'data={str(path)!r}: the folder has no {NAME}. Convert it first: protuning data convert {path} NEW_FOLDER'
        ) from None
    except ValueError as error:
        raise DataError(f'data={str(path)!r}: {NAME} cannot be read: {error}. Convert the data again') from None
    try:
        if content['version'] != _VERSION or content['task'] not in TASKS:
            raise ValueError
        palette = content['palette']
        return DataFolder(
            path=folder,
            task=content['task'],
            classes=tuple(content['classes']),
            splits={name: Split(**split) for name, split in content['splits'].items()},
            masks=content['masks'],
            palette=None if palette is None else tuple((r, g, b) for r, g, b in palette),
        )
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f'data={str(path)!r}: {NAME} is not one that this version writes. Convert the data again with protuning '
            'data convert'
        ) from None
