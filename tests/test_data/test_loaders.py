"""Every classification data set, from tiny files in the published format."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmpretrain.registry import DATASETS

from protuning_mm.data import DataError
from protuning_mm.data.corruptions import CORRUPTIONS
from tests import classification_data as data

PACK = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=32),
    dict(type='PackInputs', meta_keys=('img_path', 'corruption', 'severity', 'generated')),
]


def build(**cfg: Any) -> Any:
    """Build a data set with a pipeline that loads images; serializing would cost a second of garbage collection."""
    init_default_scope('mmpretrain')
    return DATASETS.build(cfg if 'dataset' in cfg else dict(pipeline=PACK, serialize_data=False) | cfg)


def listed(dataset: Any) -> list[tuple[str, int]]:
    """Files and labels of the samples from the pipeline."""
    samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
    return [(sample.img_path, int(sample.gt_label)) for sample in samples]


def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mmpretrain's own data set, from pickles; its checksums of the real files are disabled."""
    data.without_checksums()
    for classes in (10, 100):
        root = str(data.write_cifar(tmp_path / str(classes), classes=classes, train=5, test=2))
        sizes = {}
        for split in ('train', 'test'):
            dataset = build(type=f'CIFAR{classes}', data_root=root, split=split, download=False, pipeline=PACK[1:])
            assert len(dataset.CLASSES) == classes and dataset[0]['inputs'].shape == (3, 32, 32)
            sizes[split] = np.bincount(dataset.get_gt_labels()).tolist()
        assert sizes == dict(train=[5] * classes, test=[2] * classes)


def test_caltech101(tmp_path: Path) -> None:
    root = data.write_caltech101(tmp_path)
    train, test = (build(type='Caltech101', data_root=str(root), split=split) for split in ('train', 'test'))
    folder = f'{root}/101_ObjectCategories'
    assert listed(test) == [
        (f'{folder}/{name}/image_0003.jpg', i) for i, name in enumerate(('BACKGROUND_Google', 'Faces', 'Faces_easy'))
    ]
    assert len(train) == 6 and len(train.CLASSES) == 102


def test_pets(tmp_path: Path) -> None:
    root = data.write_pets(tmp_path)
    train, test = (build(type='OxfordIIITPet', data_root=str(root), split=split) for split in ('trainval', 'test'))
    expected = [(f'{root}/images/Abyssinian_3.jpg', 0), (f'{root}/images/american_bulldog_3.jpg', 1)]
    assert listed(test) == expected
    assert len(train) == 4 and len(train.CLASSES) == 37


def test_flowers(tmp_path: Path) -> None:
    """Images 6 and 1 are for training, 2 and 7 for validation; labels count from 1 in the file."""
    root = data.write_flowers(tmp_path)
    train, test = (build(type='Flowers102', data_root=str(root), split=split) for split in ('trainval', 'test'))
    assert listed(train) == [
        (f'{root}/jpg/image_0000{i}.jpg', label) for i, label in ((6, 0), (1, 0), (2, 101), (7, 6))
    ]
    assert listed(test) == [(f'{root}/jpg/image_0000{i}.jpg', label) for i, label in ((3, 2), (5, 1), (4, 2))]


def test_dogs(tmp_path: Path) -> None:
    root = data.write_dogs(tmp_path)
    train, test = (
        build(type='protuning_mm.StanfordDogs', data_root=str(root), split=split) for split in ('train', 'test')
    )
    assert train.CLASSES == test.CLASSES == ('Chihuahua', 'African_hunting_dog')
    images = ('n02085620-Chihuahua/n02085620_3.jpg', 'n02116738-African_hunting_dog/n02116738_3.jpg')
    assert listed(test) == [(f'{root}/Images/{image}', i) for i, image in enumerate(images)]
    assert [label for _, label in listed(train)] == [0, 0, 1, 1]
    with pytest.raises(DataError, match="split='val'; there are 'train' and 'test'"):
        build(type='protuning_mm.StanfordDogs', data_root=str(root), split='val')


@pytest.mark.parametrize('folder', ['annotations', ''])
def test_clothing1m(folder: str, tmp_path: Path) -> None:
    """Key lists name the images of a split, label files their labels, in another order."""
    root = data.write_clothing1m(tmp_path, folder)
    found = {
        split: build(type='protuning_mm.Clothing1M', data_root=str(root), split=split, ann_folder=folder)
        for split in ('noisy_train', 'clean_train', 'clean_val', 'clean_test')
    }
    for at, (split, dataset) in enumerate(found.items()):
        labels = range(3) if split == 'noisy_train' else (13, 12, 11)
        expected = [(f'{root}/images/{i}/0{at}/312616184{i},34121360{at}.jpg', label) for i, label in enumerate(labels)]
        assert listed(dataset) == expected
        assert (dataset.CLASSES[0], dataset.CLASSES[13], len(dataset.CLASSES)) == ('T-Shirt', 'Underwear', 14)
    with pytest.raises(DataError, match="split='test'; there are noisy_train, clean_train, clean_val, clean_test"):
        build(type='protuning_mm.Clothing1M', data_root=str(root), split='test', ann_folder=folder)


def test_clothing1m_without_a_label(tmp_path: Path) -> None:
    root = data.write_clothing1m(tmp_path)
    labels = root / 'annotations/noisy_label_kv.txt'
    labels.write_text(labels.read_text().split('\n', 1)[1])
    with pytest.raises(DataError, match='1 of 3 images have no label in annotations/noisy_label_kv.txt'):
        build(type='protuning_mm.Clothing1M', data_root=str(root))


@pytest.mark.parametrize('classes', [10, 100])
def test_cifar_c(classes: int, tmp_path: Path) -> None:
    """Every corruption in every severity; each image is the right row of the right file."""
    root = data.write_cifar_c(tmp_path / 'c', images=4, classes=classes)
    dataset = build(type=f'protuning_mm.CIFAR{classes}C', data_root=str(root), pipeline=PACK[2:])
    assert len(dataset) == 15 * 5 * 4 and len(dataset.CLASSES) == classes
    labels = np.load(root / 'labels.npy')
    for i in range(len(dataset)):
        sample, pixels = dataset[i]['data_samples'], dataset[i]['inputs'][:, 0, 0].tolist()
        assert [CORRUPTIONS.index(sample.corruption), sample.severity, i % 4] == pixels
        assert int(sample.gt_label) == labels[i % 4] and sample.generated is False
    some = dict(corruptions=['fog'], severities=[2, 5])
    dataset = build(type='protuning_mm.CIFAR10C', data_root=str(root), pipeline=PACK[2:], **some)
    assert [dataset[i]['inputs'][1, 0, 0] for i in range(8)] == [2] * 4 + [5] * 4


def test_cifar_c_without_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Generated from the clean test set by the library, with a message in the log."""
    from imagecorruptions import corrupt

    data.without_checksums()
    clean = dict(type='CIFAR10', data_root=str(data.write_cifar(tmp_path)), split='test', download=False)
    some = dict(corruptions=['pixelate', 'gaussian_noise'], severities=[3], pipeline=PACK[2:])
    MMLogger.get_instance('of this test').addHandler(caplog.handler)
    dataset = build(type='protuning_mm.CIFAR10C', data_root=str(tmp_path / 'no'), clean=clean, **some)
    said = {(each.levelname, each.getMessage()[:60]) for each in caplog.records if each.levelname != 'DEBUG'}
    assert said == {('WARNING', 'CIFAR10C: the corrupted images are not the published ones, b')}
    whole = build(**clean, pipeline=[])
    assert len(dataset) == 40 and dataset.get_gt_labels().tolist() == 2 * whole.get_gt_labels().tolist()
    sample = dataset[3]
    assert sample['data_samples'].generated is True
    image = sample['inputs'].numpy().transpose(1, 2, 0)
    assert np.array_equal(image, corrupt(whole[3]['img'], 3, 'pixelate'))
    noisy = dataset[23]['inputs'].numpy().transpose(1, 2, 0)
    assert 20 < np.abs(noisy - whole[3]['img'].astype(float)).mean() < 45  # sigma 0.18 of 255, clipped
    assert np.array_equal(noisy, dataset[23]['inputs'].numpy().transpose(1, 2, 0))


def test_cifar_c_in_part(tmp_path: Path) -> None:
    root = str(data.write_cifar_c(tmp_path / 'c', corruptions=CORRUPTIONS[:14]))
    for clean in (None, dict(type='CIFAR10')):  # a mixture of published and generated images would be misleading
        with pytest.raises(DataError, match='lacks jpeg_compression.npy. Unpack the whole archive'):
            build(type='protuning_mm.CIFAR10C', data_root=root, clean=clean)
    np.save(tmp_path / 'c/fog.npy', np.zeros((20, 32, 32), np.uint8))
    dataset = build(type='protuning_mm.CIFAR10C', data_root=root, corruptions=['fog'])
    with pytest.raises(DataError, match='fog.npy: shape .20, 32, 32., uint8; expected .20, 32, 32, 3., uint8'):
        dataset.get_info_with_image(0)


def test_corrupted_copies_of_any_test_set(tmp_path: Path) -> None:
    """The pipeline corrupts images, here after the resize; the test set may be a subset."""
    from imagecorruptions import corrupt

    pipeline = [*PACK[:2], dict(type='protuning_mm.Corrupt', corruption=None), PACK[2]]
    pets = dict(type='OxfordIIITPet', data_root=str(data.write_pets(tmp_path)), split='trainval', pipeline=pipeline)
    few = dict(type='protuning_mm.HeldOut', part='held_out', fraction=0.5, dataset=pets)
    kinds = dict(corruptions=['contrast', 'pixelate'], severities=[1, 5])
    dataset = build(type='protuning_mm.Corrupted', dataset=few, **kinds)
    plain = build(**few | dict(dataset=pets | dict(pipeline=PACK)))
    assert len(dataset) == 8 and dataset.get_gt_labels().tolist() == [0, 1] * 4
    for i, (corruption, severity) in enumerate((c, s) for c in kinds['corruptions'] for s in kinds['severities']):
        for j in range(2):
            found, clean = dataset[2 * i + j], plain[j]
            rgb = clean['inputs'].numpy().transpose(1, 2, 0)[..., ::-1]
            expected = corrupt(np.ascontiguousarray(rgb), severity, corruption)[..., ::-1]
            assert np.array_equal(found['inputs'].numpy().transpose(1, 2, 0), expected)
            sample = found['data_samples']
            assert (sample.corruption, sample.severity, sample.generated) == (corruption, severity, True)
            assert sample.img_path == clean['data_samples'].img_path
