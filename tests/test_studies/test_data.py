"""Splits share no digit and no part of a photograph, worlds share no image, and a seed determines every byte."""

import hashlib
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import sklearn.datasets

from studies import data as module
from studies.data import make_data
from tests.test_studies.conftest import COUNTS

SPLITS = ('train', 'val', 'test')
Metas = dict[str, dict[str, Any]]


def overlap(one: list[float], other: list[float]) -> float:
    """Return the area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def test_splits_share_no_handwritten_digit(metas: Metas) -> None:
    samples = {split: {each['digit'] for each in metas['digits']['origins'][split]} for split in SPLITS}
    assert all(samples.values())
    for one, other in combinations(SPLITS, 2):
        assert not samples[one] & samples[other]


@pytest.mark.parametrize('task', ['digits', 'textures'])
def test_splits_share_no_part_of_a_photograph(metas: Metas, task: str) -> None:
    boxes: dict[str, dict[str, list[list[float]]]] = {split: {} for split in SPLITS}
    for split in SPLITS:
        for each in metas[task]['origins'][split]:
            boxes[split].setdefault(each['picture'], []).append(each['box'])
    for one, other in combinations(SPLITS, 2):
        for picture in set(boxes[one]) & set(boxes[other]):
            shared = max(overlap(a, b) for a in boxes[one][picture] for b in boxes[other][picture])
            assert shared < 1, f'{picture}: {one} and {other} share {shared:.1f} pixels'  # boxes are rounded


def test_worlds_share_no_images(metas: Metas) -> None:
    pictures = {task: {o['picture'] for s in meta['origins'].values() for o in s} for task, meta in metas.items()}
    assert not pictures['digits'] & pictures['textures']
    assert all('digit' not in origin for split in metas['textures']['origins'].values() for origin in split)


def test_counts_of_each_class(few: Path) -> None:
    targets = sklearn.datasets.load_digits().target
    for split, folder in ((s, few / 'digits' / s) for s in SPLITS):
        found = {path.name: len(list(path.glob('*.png'))) for path in folder.iterdir()}
        # val and test show each of their writers' digits twice
        where = {'val': slice(1100, 1350), 'test': slice(1350, 1797)}.get(split)
        expected = {str(d): 6 if where is None else 2 * int((targets[where] == d).sum()) for d in range(10)}
        assert found == expected
    for split, number in COUNTS.items():
        classes = list((few / 'textures' / split).iterdir())
        assert len(classes) == (12 if split in SPLITS else 31)
        assert all(len(list(path.glob('*.png'))) == number for path in classes)
    assert len(list((few / 'digits/source').iterdir())) == 16


def digest(folder: Path) -> str:
    content = b''.join(path.read_bytes() for path in sorted(folder.rglob('*.png')))
    return hashlib.sha256(content).hexdigest()


def test_same_seed_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, 'COUNTS', {'train': 1, 'source': 1})
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        make_data(tmp_path / name, seed)
    assert digest(tmp_path / 'a') == digest(tmp_path / 'b') != digest(tmp_path / 'c')
    assert make_data(tmp_path / 'a', 0)  # existing data are kept
    with pytest.raises(ValueError, match=r"a/digits' holds data of seed 0, not 2: remove it first"):
        make_data(tmp_path / 'a', 2)
