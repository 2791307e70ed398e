"""Label maps that do not fit are named, through mmseg's own data set; the right ones give the right labels."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from protuning_mm.data import DataError
from protuning_mm.patches import patch_label_loading
from tests.mini import SIZE, write_ade

PALETTE = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    patch_label_loading('mmseg')
    return write_ade(tmp_path / 'ade', 1)


def loaded(root: Path, test_mode: bool = False, reduce: bool = True) -> np.ndarray:
    """(H, W), as training gets it."""
    from mmseg.datasets import BaseSegDataset

    steps: list[Any] = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=reduce)]
    data = BaseSegDataset(
        img_suffix='.jpg',
        seg_map_suffix='.png',
        reduce_zero_label=reduce,
        data_root=str(root),
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        metainfo=dict(classes=('a', 'b', 'c'), palette=PALETTE),
        pipeline=[dict(step, type=f'mmseg.{step["type"]}') if i else step for i, step in enumerate(steps)],
        test_mode=test_mode,
    )
    return data[0]['gt_seg_map']


def labels() -> np.ndarray:
    values = np.zeros(SIZE, np.uint8)
    values[:30], values[30:60, 20:] = 1, 3
    return values


def write(root: Path, values: np.ndarray) -> None:
    cv2.imwrite(str(root / 'annotations/training/0.png'), values)


def test_right_labels(root: Path) -> None:
    """0 is none of the classes and becomes 255; also from a palette, 16 bits whose values fit, and 1-bit maps."""
    import mmseg.datasets  # noqa: F401

    expected = labels() - np.uint8(1)
    write(root, labels())
    assert np.array_equal(loaded(root), expected)
    write(root, labels().astype(np.uint16))
    assert np.array_equal(loaded(root), expected)
    palette = Image.fromarray(labels(), 'P')
    palette.putpalette([value for color in PALETTE for value in color] * 80)
    palette.save(root / 'annotations/training/0.png')
    assert np.array_equal(loaded(root), expected)
    write(root, np.zeros(SIZE, np.uint8))
    assert (loaded(root) == 255).all()  # nothing but ignored pixels


FAULTS = {
    'another size': (lambda: labels()[:-1], r'has the size \(95, 128\) \(H, W\), its image .*0.jpg.* \(96, 128\)'),
    'turned': (lambda: labels().T.copy(), r'has the size \(128, 96\)'),
    'colours': (lambda: np.stack([labels()] * 3, -1), 'a label map has one channel'),
    'more classes': (lambda: labels() + np.uint8(7), r'labels 6, 7, 9 after reduce_zero_label.*3 classes'),
    'beyond 8 bits': (lambda: labels().astype(np.uint16) + 256, 'has the value 259: mmseg keeps 8 bits'),
}


@pytest.mark.parametrize('fault', list(FAULTS))
def test_wrong_ones_are_named(fault: str, root: Path) -> None:
    make, said = FAULTS[fault]
    write(root, make())
    with pytest.raises(DataError, match=f'0.png.*{said}'):
        loaded(root)


@pytest.mark.parametrize('content', [b'', b'no map', b'\x89PNG\r\n\x1a\n'])
def test_no_map_at_all(content: bytes, root: Path) -> None:
    (root / 'annotations/training/0.png').write_bytes(content)
    with pytest.raises(DataError, match=r'0.png.*cannot be decoded as a label map'):
        loaded(root)


def test_evaluation_leaves_unknown_labels_out(root: Path) -> None:
    """mmseg's metrics ignore such pixels: a warning names the file."""
    write(root, labels() + np.uint8(7))
    with pytest.warns(UserWarning, match='0.png.*are not scored'):
        loaded(root, test_mode=True)
