"""A missing data set: the error says which, where to get it, and what its folder must contain."""

from pathlib import Path

import pytest
from mmengine.config import Config

from protuning_mm.data import DataError, check_data_files
from tests import classification_data as data
from tests.mini import REPO

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# config -> where to get the data, a required file
PUBLISHED = {
    'cifar10': ('https://www.cs.toronto.edu/~kriz/cifar.html', 'cifar-10-batches-py/test_batch'),
    'cifar100': ('https://www.cs.toronto.edu/~kriz/cifar.html', 'cifar-100-python/train'),
    'clothing1m': ('https://github.com/Cysu/noisy_label', 'annotations/noisy_train_key_list.txt'),
    'caltech101': ('https://data.caltech.edu/records/mzrjq-6wc02', 'meta/train.txt'),
    'stanford-dogs': ('http://vision.stanford.edu/aditya86/ImageNetDogs/', 'train_list.mat'),
    'pets': ('https://www.robots.ox.ac.uk/~vgg/data/pets/', 'annotations/trainval.txt'),
    'flowers102': ('https://www.robots.ox.ac.uk/~vgg/data/flowers/102/', 'setid.mat'),
    'imagenet-a': ('https://github.com/hendrycks/natural-adv-examples', 'n01498041/*.jpg'),
    'imagenet-r': ('https://github.com/hendrycks/imagenet-r', 'n01498041/*.jpg'),
}


def config(name: str, root: Path) -> Config:
    cfg = Config.fromfile(REPO / f'configs/cls/r50_protune_{name}.py')
    cfg.data_root = str(root / cfg.data_root)
    for loader in LOADERS:
        dataset = cfg[loader].dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        dataset.data_root = str(root / dataset.data_root)
        if 'clean' in dataset:
            dataset.clean.data_root = str(root / dataset.clean.data_root)
    return cfg


QUICK = ('cifar10', 'clothing1m', 'imagenet-a')


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PUBLISHED])
def test_a_missing_folder(name: str, tmp_path: Path) -> None:
    where, layout = PUBLISHED[name]
    cfg = config(name, tmp_path)
    with pytest.raises(DataError) as caught:
        check_data_files(cfg, LOADERS)
    said = str(caught.value)
    assert f'test_dataloader.dataset.data_root={cfg.test_dataloader.dataset.data_root!r}: there is no such' in said
    assert where in said and layout in said and '--cfg-options data_root=<folder>' in said
    assert said.count(where) == 1
    elsewhere = '--cfg-options test_dataloader.dataset.data_root=<folder>.'  # ImageNet-A is not inside ImageNet
    assert (elsewhere in said) == name.startswith('imagenet')


WRITERS = {
    'cifar10': (data.write_cifar, 'cifar10', 'cifar-10-batches-py/data_batch_3'),
    'caltech101': (data.write_caltech101, 'caltech-101', 'meta/train.txt'),
    'stanford-dogs': (data.write_dogs, 'stanford-dogs', 'test_list.mat'),
    'pets': (data.write_pets, 'Oxford-IIIT_Pets', 'annotations/test.txt'),
    'flowers102': (data.write_flowers, 'Flowers102', 'setid.mat'),
    'clothing1m': (data.write_clothing1m, 'clothing1m', 'annotations/noisy_label_kv.txt'),
}


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in WRITERS])
def test_complete_and_incomplete_folders(name: str, tmp_path: Path) -> None:
    write, folder, file = WRITERS[name]
    root = write(tmp_path / 'data' / folder)
    check_data_files(config(name, tmp_path), LOADERS)
    (root / file).unlink()
    with pytest.raises(DataError, match=f'is incomplete; missing: {file}'):
        check_data_files(config(name, tmp_path), LOADERS)


def test_cifar_that_mmpretrain_may_download(tmp_path: Path) -> None:
    """Only if the config says so: by default, mmpretrain downloads silently."""
    cfg = config('cifar10', tmp_path)
    for loader in LOADERS:
        cfg[loader].dataset.pop('download')
    with pytest.raises(DataError, match='With download=True in the data set, mmpretrain fetches it'):
        check_data_files(cfg, LOADERS)
    for loader in LOADERS:
        cfg[loader].dataset.download = True
    check_data_files(cfg, LOADERS)


def test_cifar_c_or_the_clean_test_set(tmp_path: Path) -> None:
    cfg = config('cifar10-c', tmp_path)
    with pytest.raises(
        DataError, match='test_dataloader.dataset.clean.data_root=.*no such folder, for CIFAR-10'
    ) as caught:
        check_data_files(cfg, ('test_dataloader',))
    assert 'https://zenodo.org/records/2535967' in str(caught.value) and 'cifar-10-batches-py' in str(caught.value)
    data.write_cifar(tmp_path / 'data/cifar10')
    check_data_files(cfg, LOADERS)
    root = data.write_cifar_c(tmp_path / 'data/cifar10/CIFAR-10-C')
    check_data_files(cfg, LOADERS)
    (root / 'snow.npy').unlink()
    with pytest.raises(DataError, match='CIFAR-10-C is incomplete; missing: snow.npy') as caught:
        check_data_files(cfg, LOADERS)
    assert 'https://zenodo.org/records/2535967' in str(caught.value)


def test_the_training_set_that_a_test_counts(tmp_path: Path) -> None:
    """tools/test.py of a long tail reads the training labels to form the groups."""
    cfg = config('cifar10-lt-ir50', tmp_path)
    cfg.train_dataloader.dataset.dataset.data_root = 'no/such'
    data.write_cifar(tmp_path / 'data/cifar10')
    with pytest.raises(DataError, match="train_dataloader.dataset.dataset.data_root='no/such': there is no such"):
        check_data_files(cfg, ('test_dataloader',))
