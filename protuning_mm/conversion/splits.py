"""The splits of a data set: from the names of files and folders, from lists, or drawn."""

import random
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TypeVar

from protuning_mm.conversion.findings import Findings

_NAMES = {
    'train': 'train', 'training': 'train', 'trn': 'train',
    'val': 'val', 'valid': 'val', 'validation': 'val', 'dev': 'val',
    'test': 'test', 'testing': 'test',
}  # fmt: skip
_IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
Item = TypeVar('Item')


def find_split(name: str) -> str | None:
    """Return the split that a name contains as a word, such as ``instances_val2017``; None if there is none."""
    words = re.split(r'[^a-z]+', name.lower())
    return next((_NAMES[word] for word in words if word in _NAMES), None)


def find_split_of_path(path: Path, root: Path) -> str | None:
    """Return the split that one of the folders of a path names; None if there is none."""
    folders = path.relative_to(root).parts[:-1]
    return next((found for part in folders if (found := find_split(part))), None)


class SplitLists:
    """Lists of the images of each split, such as ``train.txt`` in Pascal VOC's ``ImageSets``.

    Args:
        names (Iterable[tuple[str, str]]): Names of images and their splits. A name may have folders and a suffix.
    """

    def __init__(self, names: Iterable[tuple[str, str]] = ()) -> None:
        self._splits: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for name, split in names:
            folders = tuple(part for part in PurePosixPath(name.replace('\\', '/')).parts[:-1] if part not in './..')
            self._splits.setdefault(_without_suffix(name), []).append((folders, split))

    def __bool__(self) -> bool:
        return bool(self._splits)

    def find(self, path: Path) -> str | None:
        """Return the split of an image; None if no list names it.

        Where images of several lists have one name, folders count. An image of several lists is not trained on.
        """
        found = self._splits.get(path.stem, [])
        likeness = [_shared_end(folders, path.parts[:-1]) for folders, _ in found]
        splits = {split for (_, split), like in zip(found, likeness) if like == max(likeness)}
        return min(splits, key=('test', 'val', 'train').index, default=None)


def read_split_lists(folders: Iterable[Path]) -> SplitLists:
    """Read the lists ``train.txt``, ``val.txt``, ``test.txt`` of the first folder that has any."""
    for folder in folders:
        names = []
        for path in sorted(folder.glob('*.txt')):
            split = _NAMES.get(path.stem.lower())
            if path.stem.lower() == 'trainval' and not (folder / 'train.txt').is_file():
                split = 'train'
            if split:
                names += [(line.split()[0], split) for line in path.read_text().splitlines() if line.strip()]
        if names:
            return SplitLists(names)
    return SplitLists()


def _shared_end(folders: Sequence[str], others: Sequence[str]) -> int:
    """Return how many folders two paths share, counted from their ends."""
    pairs = zip(reversed(folders), reversed(others))
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _without_suffix(name: str) -> str:
    """Return an image's file name without suffix; dots inside of names stay."""
    path = PurePosixPath(name.replace('\\', '/'))
    return path.stem if path.suffix.lower() in _IMAGE_SUFFIXES else path.name


def draw_val(splits: dict[str, list[Item]], share: float, seed: int, findings: Findings) -> dict[str, list[Item]]:
    """Take a share of the training images for validation, unless there is a split for it.

    Args:
        splits (dict[str, list]): The images of each split.
        share (float): The share, from 0 to 1.
        seed (int): Seed of the draw.
        findings (Findings): Is told of the draw.
    """
    train = splits.get('train') or []
    if splits.get('val') or not train or share == 0:
        return splits
    number = max(1, round(len(train) * share))
    if number >= len(train):
        return splits
    drawn = set(random.Random(seed).sample(range(len(train)), number))
    findings.add(f'of {len(train)} training images', 'drawn as val, because there was none', f'seed {seed}', number)
    return splits | dict(
        train=[item for i, item in enumerate(train) if i not in drawn], val=[train[i] for i in sorted(drawn)]
    )


def by_split(items: Sequence[tuple[str | None, Item]]) -> dict[str, list[Item]]:
    """Group items by their splits; those without one are of the split ``train``."""
    found: dict[str, list[Item]] = {}
    for split, item in items:
        found.setdefault(split or 'train', []).append(item)
    return found
