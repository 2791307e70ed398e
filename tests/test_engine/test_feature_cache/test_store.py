"""A store is complete or not there, and a damaged one is not read."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmpretrain.structures import DataSample

from protuning_mm.data import DataError
from protuning_mm.engine.feature_cache.sample_content import element_classes
from protuning_mm.engine.feature_cache.store import FeatureStore, write_store
from protuning_mm.engine.feature_cache.tensor_file import TensorLayout

FEATURES = torch.randn(5, 3, 2), torch.randn(5, 4)
SAMPLES = [DataSample(metainfo=dict(i=i)).set_gt_label(i) for i in range(5)]


def write(folder: Path, fail_at: int | None = None) -> None:
    def batches() -> Iterator[Any]:
        for start in (0, 2, 4):
            if start == fail_at:
                raise KeyboardInterrupt
            yield [each[start : start + 2] for each in FEATURES], SAMPLES[start : start + 2]

    layouts = [TensorLayout.of(each) for each in FEATURES]
    write_store(folder, dict(weights='x'), ['stage1', 'out0'], layouts, 5, batches())


def test_round_trip(tmp_path: Path) -> None:
    write(tmp_path / 'store')
    store = FeatureStore(tmp_path / 'store')
    assert len(store) == 5 and store.identity == dict(weights='x') and store.nbytes == 5 * 10 * 4
    for found, expected in zip(store.read([3, 1]), FEATURES, strict=True):
        assert torch.equal(found, expected[[3, 1]])
    labels = [sample.gt_label.item() for sample in store.read_samples([3, 1], element_classes(SAMPLES))]
    assert labels == [3, 1]


def test_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / 'store', fail_at=4)
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / 'store')
    with pytest.raises(KeyboardInterrupt):  # an existing one stays
        write(tmp_path / 'store', fail_at=2)
    assert len(FeatureStore(tmp_path / 'store')) == 5


def test_what_a_killed_run_has_left_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / 'store')
    shutil.move(tmp_path / 'store', tmp_path / '.store.part')
    (tmp_path / '.store.part/features.json').unlink()
    (tmp_path / '.store.part/old').touch()
    write(tmp_path / 'store')
    assert [path.name for path in tmp_path.iterdir()] == ['store'] and not (tmp_path / 'store/old').exists()


@pytest.mark.parametrize('name', ['stage1.npy', 'out0.npy', 'samples.jsonl', 'samples.bin'])
@pytest.mark.parametrize('damage', ['changed', 'cut', 'missing'])
def test_damaged_file(name: str, damage: str, tmp_path: Path) -> None:
    write(tmp_path / 'store')
    path = tmp_path / 'store' / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data if damage == 'changed' else data[:-1])
    if damage == 'missing':
        path.unlink()
    with pytest.raises(DataError, match=f'{name} is damaged' if damage != 'missing' else 'cannot be read'):
        FeatureStore(tmp_path / 'store')


@pytest.mark.parametrize('text', ['', '[]', '{"version": 1}', '{"version": 2}'])
def test_damaged_description(text: str, tmp_path: Path) -> None:
    write(tmp_path / 'store')
    (tmp_path / 'store/features.json').write_text(text)
    with pytest.raises(DataError, match='cannot be read|has the format 2, not 1'):
        FeatureStore(tmp_path / 'store')


def test_features_of_another_shape(tmp_path: Path) -> None:
    layouts = [TensorLayout.of(FEATURES[0])]
    batches = [([FEATURES[0][:1]], SAMPLES[:1]), ([torch.zeros(1, 3, 4)], SAMPLES[1:2])]
    with pytest.raises(DataError, match=r'have several shapes \(\(3, 4\), torch.float32, where \(3, 2\)'):
        write_store(tmp_path / 'store', {}, ['out0'], layouts, 2, batches)
    assert list(tmp_path.iterdir()) == []


def test_checksums_are_in_the_description(tmp_path: Path) -> None:
    write(tmp_path / 'store')
    described = json.loads((tmp_path / 'store/features.json').read_text())
    names = {path.name for path in (tmp_path / 'store').iterdir()}
    assert described['checksums'].keys() == names - {'features.json'}
