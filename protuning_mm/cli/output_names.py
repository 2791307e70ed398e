"""Distinct output names for images, so that the output of one image never overwrites that of another."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory


def make_distinct_names(images: Sequence[str]) -> dict[str, str]:
    """Give each image a file name with a stem of its own, since the hosts name their output by the stem.

    If several images have the same stem, it is extended by the file extension (``a.jpg``, ``a.png``: ``a_jpg``,
    ``a_png``), by the folder (``x/a.jpg``, ``y/a.jpg``: ``x_a``, ``y_a``), by both, or by a number. Upper and lower
    case count as the same, as on some file systems.

    Args:
        images (Sequence[str]): Paths without duplicates.

    Returns:
        dict[str, str]: Path -> file name, with the extension of the path.
    """
    same_stem: dict[str, list[str]] = defaultdict(list)
    for image in images:
        same_stem[Path(image).stem.casefold()].append(image)
    taken, names = set(same_stem), dict[str, str]()
    for group in same_stem.values():
        for stems in _candidate_stems([Path(image) for image in group]):
            folded = {stem.casefold() for stem in stems}
            if len(group) == 1 or (len(folded) == len(group) and not folded & taken):
                break
        taken |= folded
        names |= {image: stem + Path(image).suffix for image, stem in zip(group, stems)}
    return {image: names[image] for image in images}


def _candidate_stems(paths: list[Path]) -> Iterator[list[str]]:
    if len(paths) == 1:
        yield [paths[0].stem]
    folders = [path.parent.resolve().name for path in paths]
    yield [f'{path.stem}_{path.suffix[1:]}' for path in paths]
    yield [f'{folder}_{path.stem}' for folder, path in zip(folders, paths)]
    yield [f'{folder}_{path.stem}_{path.suffix[1:]}' for folder, path in zip(folders, paths)]
    first = 1
    while True:
        yield [f'{path.stem}_{i}' for i, path in enumerate(paths, first)]
        first += len(paths)


@contextmanager
def link_distinct_names(images: Sequence[str]) -> Iterator[list[str]]:
    """Yield paths with distinct stems: images that share a stem are linked under another name in a temporary folder."""
    names = make_distinct_names(images)
    with TemporaryDirectory() as folder:
        paths = []
        for image, name in names.items():
            if name == Path(image).name:
                paths.append(image)
                continue
            paths.append(str(Path(folder) / name))
            try:
                Path(paths[-1]).symlink_to(Path(image).absolute())
            except OSError:  # on Windows, links need a privilege
                copyfile(image, paths[-1])
        yield paths
