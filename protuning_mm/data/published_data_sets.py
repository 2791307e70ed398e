"""Published classification data sets: where to get them, and the files that their folders must contain."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protuning_mm.data.corruptions import CORRUPTIONS


@dataclass(frozen=True)
class Source:
    """A published data set.

    Args:
        name (str): The name of the data set.
        where (str): Where to get it.
        layout (str): The files that ``data_root`` must contain.
        required (Callable): Returns, for a data set's config, the paths below ``data_root`` that it reads.
    """

    name: str
    where: str
    layout: str
    required: Callable[[dict[str, Any]], list[str]]

    def __str__(self) -> str:
        lines = '\n'.join(f'    {line}' for line in self.layout.strip().splitlines())
        return f'{self.name}: {self.where}\nIts data_root must contain\n{lines}'


def find_source(dataset: dict[str, Any]) -> Source | None:
    """Find the published data set that a data set's config reads; None for other data sets."""
    return SOURCES.get(str(dataset.get('type')).rpartition('.')[2])


def find_missing_paths(source: Source, dataset: dict[str, Any]) -> list[str]:
    """Find the missing paths that a config reads; none if ``download=True`` lets mmpretrain fetch them."""
    if dataset.get('download') is True:
        return []
    prefix = dataset.get('data_prefix') or ''
    root = Path(dataset.get('data_root') or '') / (prefix if isinstance(prefix, str) else '')
    return [path for path in source.required(dataset) if not (root / path).exists()]


def find_clean_config(dataset: dict[str, Any]) -> dict[str, Any] | None:
    """Find the config of the clean test set from which CIFAR-C is computed if none of its own files exists."""
    clean = dataset.get('clean')
    if not isinstance(clean, dict) or not str(dataset.get('type')).endswith(('CIFAR10C', 'CIFAR100C')):
        return None
    root = Path(dataset.get('data_root') or '')
    return None if any((root / f'{corruption}.npy').exists() for corruption in CORRUPTIONS) else clean


def _split(dataset: dict[str, Any], default: str) -> str:
    return str(dataset.get('split', default))


def list_clothing1m_files(split: str, folder: str) -> list[str]:
    """List the key list of a split of Clothing1M and the label file for it."""
    return [str(Path(folder) / f'{split}_key_list.txt'), str(Path(folder) / f'{split.split("_")[0]}_label_kv.txt')]


def _clothing1m(dataset: dict[str, Any]) -> list[str]:
    files = list_clothing1m_files(_split(dataset, 'noisy_train'), dataset.get('ann_folder', 'annotations'))
    return ['images', *files]


def _cifar_c(dataset: dict[str, Any]) -> list[str]:
    return ['labels.npy', *(f'{name}.npy' for name in dataset.get('corruptions', CORRUPTIONS))]


def _cifar_source(name: str, files: list[str]) -> Source:
    where = (
        f'the Python version, {name.lower()}-python.tar.gz, at https://www.cs.toronto.edu/~kriz/cifar.html, unpacked. '
        'With download=True in the data set, mmpretrain fetches it'
    )
    return Source(name, where, '\n'.join(files), lambda _: files)


def _cifar_c_source(name: str, record: str) -> Source:
    layout = 'labels.npy\ngaussian_noise.npy\nshot_noise.npy\n…            one file for each of the 15 corruptions'
    where = (
        f'{name}.tar at https://zenodo.org/records/{record}, unpacked; or computed from the clean test set by '
        'tools/dataset_converters/make_cifar_c.py, which gives stronger corruptions'
    )
    return Source(name, where, layout, _cifar_c)


def _imagenet_source(name: str, repository: str) -> Source:
    where = f'{name.lower()}.tar, linked at https://github.com/hendrycks/{repository}, unpacked'
    return Source(name, where, 'n01498041/*.jpg\n…            200 folders named by WordNet ids', lambda _: [''])


_CIFAR10_TRAIN = [f'cifar-10-batches-py/data_batch_{i}' for i in range(1, 6)]
SOURCES = {
    'CIFAR10': _cifar_source('CIFAR-10', [*_CIFAR10_TRAIN, 'cifar-10-batches-py/test_batch']),
    'CIFAR100': _cifar_source('CIFAR-100', ['cifar-100-python/train', 'cifar-100-python/test']),
    'Clothing1M': Source(
        'Clothing1M',
        'its authors send a link on request, https://github.com/Cysu/noisy_label; unpack the archives in images/',
        'annotations/noisy_train_key_list.txt, noisy_label_kv.txt\n'
        'annotations/clean_{train,val,test}_key_list.txt, clean_label_kv.txt\n'
        'images/0/…  images/9/…\n'
        "(ann_folder='' in the data set, where the lists lie beside images/)",
        _clothing1m,
    ),
    'Caltech101': Source(
        'Caltech101',
        'https://data.caltech.edu/records/mzrjq-6wc02, unpacked. It has no official split: '
        "mmpretrain's lists are at https://mmassets.onedl.ai/mmpretrain/datasets/caltech_meta.zip",
        '101_ObjectCategories/accordion/*.jpg, …\nmeta/train.txt\nmeta/test.txt',
        lambda dataset: ['101_ObjectCategories', f'meta/{_split(dataset, "train")}.txt'],
    ),
    'StanfordDogs': Source(
        'Stanford Dogs',
        'images.tar and lists.tar at http://vision.stanford.edu/aditya86/ImageNetDogs/, unpacked',
        'Images/n02085620-Chihuahua/*.jpg, …\ntrain_list.mat\ntest_list.mat',
        lambda dataset: ['Images', f'{_split(dataset, "train")}_list.mat'],
    ),
    'OxfordIIITPet': Source(
        'Oxford-IIIT Pets',
        'images.tar.gz and annotations.tar.gz at https://www.robots.ox.ac.uk/~vgg/data/pets/, unpacked',
        'images/Abyssinian_1.jpg, …\nannotations/trainval.txt\nannotations/test.txt',
        lambda dataset: ['images', f'annotations/{_split(dataset, "trainval")}.txt'],
    ),
    'Flowers102': Source(
        'Oxford 102 Flowers',
        '102flowers.tgz, imagelabels.mat and setid.mat at https://www.robots.ox.ac.uk/~vgg/data/flowers/102/, the '
        'first unpacked',
        'jpg/image_00001.jpg, …\nimagelabels.mat\nsetid.mat',
        lambda _: ['jpg', 'imagelabels.mat', 'setid.mat'],
    ),
    'CIFAR10C': _cifar_c_source('CIFAR-10-C', '2535967'),
    'CIFAR100C': _cifar_c_source('CIFAR-100-C', '3555552'),
    'ImageNetA': _imagenet_source('ImageNet-A', 'natural-adv-examples'),
    'ImageNetR': _imagenet_source('ImageNet-R', 'imagenet-r'),
    'ImageNet': Source(
        'ImageNet',
        'ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar at https://image-net.org after a registration, unpacked '
        'into a folder a class',
        'train/n01440764/*.JPEG, …\nval/n01440764/*.JPEG, …',
        lambda dataset: ['' if dataset.get('data_prefix') else _split(dataset, '')],
    ),
    'ImageNetSubset': Source(
        'ImageNet',
        'ILSVRC2012_img_train.tar at https://image-net.org after a registration, unpacked into a folder a class',
        'n01440764/*.JPEG, …',
        # without classes_of, this is the current folder, which exists
        lambda dataset: ['', str(Path(dataset.get('classes_of') or '').absolute())],
    ),
}
