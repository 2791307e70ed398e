"""Images that are decoded and resized once: the same pixels as from the files, and every wrapper works on them."""

import gzip
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from protuning_lab.cache_images import main
from protuning_mm.data import DataError

CONFIG = """
default_scope = 'mmpretrain'
load = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(
    type='protuning_mm.FewShot', shots=2,
    dataset=dict(type='CustomDataset', data_root='{root}', data_prefix='train', pipeline=load)))
test_dataloader = dict(dataset=dict(type='CustomDataset', data_root='{root}', data_prefix='test', pipeline=load))
"""


def build(**cfg: Any) -> Any:
    init_default_scope('mmpretrain')
    return DATASETS.build(cfg)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Folders of classes, four images of 10x14 in each; channels differ."""
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in ('cat', 'dog'):
            folder = tmp_path / 'data' / split / name
            folder.mkdir(parents=True)
            for i in range(4):
                cv2.imwrite(str(folder / f'{i}.png'), rng.integers(0, 255, (10, 14, 3), np.uint8))
    (tmp_path / 'mine.py').write_text(CONFIG.format(root=tmp_path / 'data'))
    return tmp_path


def test_pixels_labels_and_classes(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Expected: each file read and resized by OpenCV, as RGB. The config's wrapper chooses the images."""
    out = folders / 'out'
    main([str(folders / 'mine.py'), str(out), '--size', '8', '--splits', 'train', 'test'])
    assert 'train: 4 images of 8x8' in capsys.readouterr().out
    cached = build(type='protuning_mm.ImageArrays', data_root=str(out), split='test', pipeline=[])
    files = sorted((folders / 'data/test').rglob('*.png'))
    assert len(cached) == len(files) == 8 and cached.metainfo['classes'] == ('cat', 'dog')
    for i, file in enumerate(files):
        expected = cv2.resize(cv2.imread(str(file)), (8, 8), interpolation=cv2.INTER_CUBIC)[..., ::-1]
        found = cached[i]
        assert np.array_equal(found['img'], expected)
        assert cached.metainfo['classes'][found['gt_label']] == file.parent.name
    few = build(
        type='protuning_mm.HeldOut',
        part='held_out',
        fraction=0.5,
        dataset=dict(type='protuning_mm.ImageArrays', data_root=str(out), pipeline=[dict(type='PackInputs')]),
    )
    assert few.get_gt_labels().tolist() == [0, 1] and few[1]['inputs'].shape == (3, 8, 8)


def test_fashion_mnist_becomes_rgb(tmp_path: Path) -> None:
    """In its own format: gray images of 28x28 in IDX files."""
    pixels = np.random.default_rng(0).integers(0, 255, (3, 28, 28), np.uint8)
    for split in ('train', 't10k'):
        (tmp_path / f'{split}-images-idx3-ubyte').write_bytes(struct.pack('>4I', 2051, 3, 28, 28) + pixels.tobytes())
        (tmp_path / f'{split}-labels-idx1-ubyte').write_bytes(struct.pack('>2I', 2049, 3) + bytes([1, 0, 9]))
        for file in list(tmp_path.glob(f'{split}-*ubyte')):
            file.with_name(f'{file.name}.gz').write_bytes(gzip.compress(file.read_bytes()))
    cfg = Config(
        dict(
            test_dataloader=dict(dataset=dict(type='FashionMNIST', data_root=str(tmp_path), split='test', pipeline=[]))
        )
    )
    cfg.dump(tmp_path / 'fashion.py')
    main([str(tmp_path / 'fashion.py'), str(tmp_path / 'out'), '--size', '28', '--splits', 'test'])
    cached = build(type='protuning_mm.ImageArrays', data_root=str(tmp_path / 'out'), split='test', pipeline=[])
    assert cached.get_gt_labels().tolist() == [1, 0, 9] and len(cached.metainfo['classes']) == 10
    for i in range(3):
        assert np.array_equal(cached[i]['img'], np.stack([pixels[i]] * 3, -1))


def test_bad_files(tmp_path: Path) -> None:
    arrays = dict(type='protuning_mm.ImageArrays', data_root=str(tmp_path), pipeline=[])
    with pytest.raises(DataError, match=r"classes.json' does not exist: write the data set with cache_images.py"):
        build(**arrays)
    (tmp_path / 'classes.json').write_text('["a", "b"]')
    np.save(tmp_path / 'train_labels.npy', np.zeros(3, np.int64))
    with pytest.raises(DataError, match=r"train_images.npy' does not exist"):
        build(**arrays)
    np.save(tmp_path / 'train_images.npy', np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(
        DataError, match=r'has the shape \(2, 4, 4, 3\) and the type uint8, and its labels have the shape \(3,\)'
    ):
        build(**arrays)
