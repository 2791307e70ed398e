"""Tiny classification data sets in their true on-disk formats; the images are noise.

mmpretrain compares CIFAR's files with the checksums of the real ones; ``without_checksums`` lets it read these.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS
from PIL import Image
from scipy.io import savemat

from protuning_mm.data.corruptions import CORRUPTIONS


def write_cifar(root: Path, classes: int = 10, train: int = 5, test: int = 2) -> Path:
    """CIFAR-10 or CIFAR-100 for Python: pickled batches of rows of 3072 bytes, red before green before blue."""
    folder = root / ('cifar-10-batches-py' if classes == 10 else 'cifar-100-python')
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [f'data_batch_{i}' for i in range(1, 6)] if classes == 10 else ['train']
    splits = dict.fromkeys(names, train // len(names) or 1) | {'test_batch' if classes == 10 else 'test': test}
    for name, each in splits.items():
        labels = np.repeat(np.arange(classes), each)
        rng.shuffle(labels)
        content = {
            'batch_label': name,
            ('labels' if classes == 10 else 'fine_labels'): labels.tolist(),
            'data': rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8),
            'filenames': [f'{i}.png' for i in range(len(labels))],
        }
        if classes == 100:
            content['coarse_labels'] = (labels // 5).tolist()
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    (folder / ('batches.meta' if classes == 10 else 'meta')).write_bytes(pickle.dumps({}))
    return root


def write_cifar_c(root: Path, images: int = 4, corruptions: Sequence[str] = CORRUPTIONS, classes: int = 10) -> Path:
    """CIFAR-10-C: a file a corruption, five severities one after the other; here a pixel tells which it is."""
    root.mkdir(parents=True)
    labels = np.random.default_rng(0).integers(0, classes, images)
    np.save(root / 'labels.npy', np.tile(labels, 5).astype(np.uint8))
    for corruption in corruptions:
        pixels = np.zeros((5 * images, 32, 32, 3), np.uint8)
        pixels[:, 0, 0, 0] = CORRUPTIONS.index(corruption)
        pixels[:, 0, 0, 1] = np.repeat(np.arange(1, 6), images)
        pixels[:, 0, 0, 2] = np.tile(np.arange(images), 5)
        np.save(root / f'{corruption}.npy', pixels)
    return root


def write_caltech101(root: Path, classes: Sequence[str] = ('BACKGROUND_Google', 'Faces', 'Faces_easy')) -> Path:
    """Folders of classes under 101_ObjectCategories, and mmpretrain's lists in meta; others have no split."""
    for split, images in (('train', (1, 2)), ('test', (3,))):
        lines = []
        for label, name in enumerate(classes):
            for i in images:
                write_image(root / f'101_ObjectCategories/{name}/image_{i:04}.jpg')
                lines.append(f'{name}/image_{i:04}.jpg {label}')
        write_lines(root / f'meta/{split}.txt', lines)
    return root


def write_pets(root: Path, breeds: Sequence[str] = ('Abyssinian', 'american_bulldog')) -> Path:
    """One folder of images; name, class from 1, species and breed of the species a line."""
    for split, images in (('trainval', (1, 2)), ('test', (3,))):
        lines = []
        for label, breed in enumerate(breeds, start=1):
            for i in images:
                write_image(root / f'images/{breed}_{i}.jpg')
                lines.append(f'{breed}_{i} {label} {2 if breed[0].islower() else 1} 1')
        write_lines(root / f'annotations/{split}.txt', lines)
    return root


def write_flowers(root: Path, labels: Sequence[int] = (1, 102, 3, 3, 2, 1, 7)) -> Path:
    """Numbered images; labels from 1 and numbers of the images of each split in MATLAB's files, as rows."""
    for i in range(1, len(labels) + 1):
        write_image(root / f'jpg/image_{i:05}.jpg')
    savemat(root / 'imagelabels.mat', {'labels': np.array([labels], np.uint8)}, do_compression=True)
    splits = {'trnid': [[6, 1]], 'valid': [[2, 7]], 'tstid': [[3, 5, 4]]}
    savemat(root / 'setid.mat', {name: np.array(ids, np.uint16) for name, ids in splits.items()})
    return root


def write_dogs(root: Path, breeds: Sequence[str] = ('n02085620-Chihuahua', 'n02116738-African_hunting_dog')) -> Path:
    """Folders of breeds under Images; columns of cells in MATLAB's files."""
    for split, images in (('train', (1, 2)), ('test', (3,))):
        files = [f'{breed}/{breed.split("-")[0]}_{i}.jpg' for breed in breeds for i in images]
        for file in files:
            write_image(root / 'Images' / file)
        cells = np.empty((len(files), 1), object)
        cells[:, 0] = files
        annotations = np.empty((len(files), 1), object)
        annotations[:, 0] = [file.removesuffix('.jpg') for file in files]
        labels = np.repeat(np.arange(1.0, len(breeds) + 1), len(images))[:, None]
        content = dict(file_list=cells, annotation_list=annotations, labels=labels)
        savemat(root / f'{split}_list.mat', content, do_compression=True)
    return root


def write_clothing1m(root: Path, folder: str = 'annotations') -> Path:
    """Images in folders by number, with a comma in their names; lists of keys, and keys with labels."""
    keys: dict[str, list[str]] = {}
    for at, split in enumerate(('noisy_train', 'clean_train', 'clean_val', 'clean_test')):
        keys[split] = [f'images/{i}/0{at}/312616184{i},34121360{at}.jpg' for i in range(3)]
        for key in keys[split]:
            write_image(root / key)
        write_lines(root / folder / f'{split}_key_list.txt', keys[split])
    clean = [f'{key} {13 - i}' for split in keys if split != 'noisy_train' for i, key in enumerate(keys[split])]
    write_lines(root / folder / 'clean_label_kv.txt', clean[::-1])
    write_lines(root / folder / 'noisy_label_kv.txt', [f'{key} {i}' for i, key in enumerate(keys['noisy_train'])])
    return root


def write_imagenet_folders(root: Path, wnids: Sequence[str]) -> Path:
    """A folder a class, and the README that the archives bring."""
    for wnid in wnids:
        write_image(root / wnid / '0.000116_digital clock _ digital clock_0.865662.jpg')
    write_lines(root / 'README.txt', ['Natural adversarial examples'])
    return root


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n')


def without_checksums() -> None:
    """Let mmpretrain's CIFAR classes read files that are not the published ones."""
    from mmpretrain.datasets import CIFAR10, CIFAR100

    for kind in (CIFAR10, CIFAR100):
        for files in (kind.train_list, kind.test_list):
            files[:] = [[name, None] for name, _ in files]


@DATASETS.register_module(force=True)
class LabelsAlone(BaseDataset):
    """Images of one pixel, which is the image's index, with the labels that the config gives."""

    def __init__(self, labels: Sequence[int], classes: int, **kwargs: Any) -> None:
        self.labels = list(labels)
        names = [f'class {i}' for i in range(classes)]
        super().__init__(ann_file='', classes=names, serialize_data=False, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        return [dict(img=np.full((1, 1, 3), i), gt_label=label, image=i) for i, label in enumerate(self.labels)]
