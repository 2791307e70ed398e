"""Stored features that do not fit a run are not used, and the log says why."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from protuning_mm.engine.feature_cache.tensor_file import file_checksum
from tests.test_engine.test_feature_cache.small_run import (
    PLAIN,
    log,
    make_config,
    result,
    train,
    write_images,
)
from tests.test_engine.test_resume_grid import differing


def other_weights(folder: Path) -> dict[str, Any]:
    state = torch.load(folder / 'base.pth')
    state['layer2.0.conv1.weight'] *= 1.5
    torch.save(state, folder / 'other.pth')
    return dict(base=folder / 'other.pth')


def other_pipeline(folder: Path) -> dict[str, Any]:
    return dict(pipeline=[PLAIN[0], dict(type='Resize', scale=(40, 40)), PLAIN[2]])


def other_image(folder: Path) -> dict[str, Any]:
    """The last image: it is not in the batch that is computed in every run."""
    shutil.copy(folder / 'images/0/0.png', folder / 'images/2/11.png')
    return {}


def other_time(folder: Path) -> dict[str, Any]:
    os.utime(folder / 'images/2/11.png', (1, 1))
    return {}


def other_batch_size(folder: Path) -> dict[str, Any]:
    return dict(loader=dict(batch_size=3))


def other_preprocessor(folder: Path) -> dict[str, Any]:
    return dict(data_preprocessor=dict(type='ClsDataPreprocessor', mean=[1.0] * 3, std=[1.0] * 3, num_classes=3))


CHANGES: dict[Callable[[Path], dict[str, Any]], str] = {
    other_weights: 'are of other weights; they are computed',
    other_pipeline: 'are of other pipeline; they are computed',
    other_image: 'are of other images; they are computed',
    other_time: 'are of other images; they are computed',
    other_batch_size: 'are of other computation; they are computed',
    other_preprocessor: 'are of other pipeline; they are computed',
}


def copied(files: Path, folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(files / 'base.pth', folder)
    write_images(folder / 'images')
    return folder


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
def test_a_change(change: Callable[[Path], dict[str, Any]], files: Path, tmp_path: Path) -> None:
    data, shared = copied(files, tmp_path / 'data'), str(tmp_path / 'shared')
    train(make_config(data, tmp_path / 'first', cache=shared))
    changes = change(data)
    one = train(make_config(data, tmp_path / 'images', cache=False, **changes))
    other = train(make_config(data, tmp_path / 'features', cache=shared, **changes))
    assert differing(result(one), result(other)) == []
    assert CHANGES[change] in log(other)
    again = train(make_config(data, tmp_path / 'again', cache=shared, **changes))
    assert 'are read from' in log(again) and differing(result(one), result(again)) == []


def flip_a_bit(folder: Path) -> None:
    path = folder / 'stage4.npy'
    data = bytearray(path.read_bytes())
    data[-1] ^= 64
    path.write_bytes(data)


def forge(folder: Path) -> None:
    """Other features with right checksums, as another machine might compute them."""
    path, described = folder / 'stage4.npy', json.loads((folder / 'features.json').read_text())
    data = bytearray(path.read_bytes())
    data[200] ^= 1  # of the first image
    path.write_bytes(data)
    described['checksums']['stage4.npy'] = file_checksum(path)
    (folder / 'features.json').write_text(json.dumps(described))


def remove_a_file(folder: Path) -> None:
    (folder / 'samples.bin').unlink()


DAMAGES: dict[Callable[[Path], None], str] = {
    flip_a_bit: 'stage4.npy is damaged: its content does not match its checksum; they are computed now',
    forge: 'differ from what this run computes; they are computed now',
    remove_a_file: 'cannot be read',
}


@pytest.mark.parametrize('damage', DAMAGES, ids=lambda damage: damage.__name__)
def test_damage(damage: Callable[[Path], None], files: Path, tmp_path: Path) -> None:
    shared = tmp_path / 'shared'
    first = train(make_config(files, tmp_path / 'first', cache=str(shared)))
    (folder,) = (path for path in shared.iterdir() if path.is_dir())
    damage(folder)
    other = train(make_config(files, tmp_path / 'other', cache=str(shared)))
    assert DAMAGES[damage] in log(other) and differing(result(first), result(other)) == []
    again = train(make_config(files, tmp_path / 'again', cache=str(shared)))
    assert 'are read from' in log(again)


def test_a_second_run_reads_the_files_of_the_first(files: Path, tmp_path: Path) -> None:
    """Also with another tuning of the same part: other prompts, another learning rate."""
    shared = tmp_path / 'shared'
    train(make_config(files, tmp_path / 'first', cache=str(shared)))
    before = {path: path.stat().st_mtime_ns for path in shared.rglob('*.npy')}
    tuning = dict(type='pro', prompt_stages=(3,), ratio=0.5)
    optimizer = dict(constructor='protuning_mm.TrainableOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.01))
    runner = train(make_config(files, tmp_path / 'other', tuning, str(shared), optim_wrapper=optimizer))
    assert 'are read from' in log(runner)
    assert len(before) == 1 and {path: path.stat().st_mtime_ns for path in shared.rglob('*.npy')} == before
