"""Names for what is written about images, so that no image's output takes another's place."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory


def distinct_names(images: Sequence[str]) -> dict[str, str]:
    """Give each image a file name whose stem no other has: the hosts name what they write by the stem.

    A stem of one image stays as it is. Else its ending is added (``a.jpg``, ``a.png``: ``a_jpg``, ``a_png``), its
    folder (``x/a.jpg``, ``y/a.jpg``: ``x_a``, ``y_a``), both, or a number. Capital letters make no difference, as on
    some disks.

    Args:
        images (Sequence[str]): Paths, each of them once.

    Returns:
        dict[str, str]: path -> file name, with the path's own suffix.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for image in images:
        alike[Path(image).stem.casefold()].append(image)
    taken, names = set(alike), dict[str, str]()
    for group in alike.values():
        for stems in _proposed([Path(image) for image in group]):
            folded = {stem.casefold() for stem in stems}
            if len(group) == 1 or (len(folded) == len(group) and not folded & taken):
                break
        taken |= folded
        names |= {image: stem + Path(image).suffix for image, stem in zip(group, stems)}
    return {image: names[image] for image in images}


def _proposed(paths: list[Path]) -> Iterator[list[str]]:
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
def under_distinct_names(images: Sequence[str]) -> Iterator[list[str]]:
    """Hand out the images' paths, those that share a stem as links of another name in a temporary folder."""
    names = distinct_names(images)
    with TemporaryDirectory() as folder:
        paths = []
        for image, name in names.items():
            if name == Path(image).name:
                paths.append(image)
                continue
            paths.append(str(Path(folder) / name))
            try:
                Path(paths[-1]).symlink_to(Path(image).absolute())
            except OSError:  # Windows lets only some users link
                copyfile(image, paths[-1])
        yield paths
