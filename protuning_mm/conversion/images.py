"""Finding images by the names that annotations give, and reading their sizes."""

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

from PIL import Image

from protuning_mm.conversion.findings import Findings
from protuning_mm.conversion.splits import find_split_of_path
from protuning_mm.data.data_folder import NAME

SUFFIXES = frozenset({'.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'})
_ORIENTATION = 0x0112  # EXIF tag; from 5 on, the image is stored on its side


def is_own(folder: Path) -> bool:
    """Return whether a folder is hidden, or was written by a conversion, and is thus no part of a data set."""
    name = folder.name
    return name.startswith('.') or name == '__MACOSX' or name.endswith('.partial') or (folder / NAME).is_file()


def find_root(source: Path) -> Path:
    """Return the folder below which the images of a data set lie: for a file in ``annotations``, the folder above."""
    if source.is_dir():
        return source
    return source.parent.parent if source.parent.name.lower() in ('annotations', 'labels') else source.parent


def list_files(root: Path, suffixes: frozenset[str]) -> list[Path]:
    """List the files below a folder that have one of some suffixes, sorted.

    Hidden files are left out, and folders that a conversion has written or is writing.
    """
    found = []
    for folder, inner, names in os.walk(root, followlinks=True):
        inner[:] = [name for name in inner if not is_own(Path(folder) / name)]
        kept = (name for name in names if not name.startswith('.') and Path(name).suffix.lower() in suffixes)
        found += [Path(folder) / name for name in kept]
    return sorted(found)


class ImageFinder:
    """Finds the images below a folder by path, file name or file name without suffix.

    Args:
        root (Path): The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = list_files(root, SUFFIXES)
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            self._by_name[path.name].append(path)
            self._by_name[path.stem].append(path)

    def find(self, name: str, near: Path, split: str | None = None) -> Path | None:
        """Find an image.

        Args:
            name (str): Path, file name, or file name without suffix.
            near (Path): The file that names it. Of several images of the name, the one whose folders are most like
                those of the name, else of this file, is taken.
            split (str, optional): The split that it is of, which one of its folders may name. Defaults to None.

        Returns:
            Path, optional: The image; None if there is none, or if several fit equally well.
        """
        written = PurePosixPath(name.replace('\\', '/'))
        found = self._by_name.get(written.name) or []
        split = split or (find_split_of_path(near, self.root) if near.is_relative_to(self.root) else None)
        if split is not None:  # an image of another split only has the same name
            found = [path for path in found if find_split_of_path(path, self.root) in (None, split)]
        if len(found) < 2:
            return found[0] if found else None
        parts = [part for part in written.parts if part not in ('..', '.', '/')][:-1]
        wanted = set(parts or near.parts[:-1])
        likeness = []
        for path in found:
            folders = path.parts[:-1]
            of_split = split is not None and find_split_of_path(path, self.root) == split
            likeness.append(len(wanted.intersection(folders)) + of_split)
        best = max(likeness)
        return found[likeness.index(best)] if likeness.count(best) == 1 else None


def read_size(path: Path, findings: Findings) -> tuple[int, int] | None:
    """Read width and height of an image as it is shown, that is, turned as its EXIF orientation says.

    Returns:
        tuple[int, int], optional: Width and height; None if the file is no image.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # a SyntaxError: some damaged PNG files
        findings.add('images that cannot be read', 'left out', path.name)
        return None
    if turned:
        findings.add('images that are stored on their side', 'their boxes are taken as of the upright image', path.name)
    return (height, width) if turned else (width, height)
