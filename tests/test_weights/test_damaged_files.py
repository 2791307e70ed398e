"""Damaged files of this package and of other programs: a clear error, or the state that the intact file gives.

A ``.pth`` of another program has a CRC for each entry, and from torch 2.1 on a hash of the CRCs. torch's format before
1.6 and ``.safetensors`` have neither: only their structure can be checked, not their numbers.
"""

import random
import resource
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import load_checkpoint

from protuning_mm.weights import CheckpointError, load_checkpoint_file
from tests.plain import fill, plain_resnet
from tests.test_multitask.tasks import Workshop
from tests.test_weights import damage
from tests.test_weights.damage import Damage
from tests.test_weights.deltas import classifier
from tests.test_weights.entry_points import Warnings, entry_points, make_files, outcome, tools

UNVERIFIABLE = ('legacy.pth', 'plain.safetensors')
KINDS = ('whole.pth', 'delta.pth', 'task.safetensors', 'plain.pth', *UNVERIFIABLE)
SEEDS = 7  # for each kind of damage: 505 files
MEMORY = 2**30
SECONDS = 60


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An intact file of each kind, and their base."""
    folder = tmp_path_factory.mktemp('files')
    base = folder / 'base.pth'
    torch.save(fill(plain_resnet('mmdet', depth=18)).state_dict(), base)
    return {**make_files(folder, lambda *args, **kwargs: str(base)), 'base': base}


def ways(kind: str) -> list[Damage]:
    if kind.endswith('.safetensors'):
        return damage.OF_SAFETENSORS
    return damage.OF_LEGACY if kind.startswith('legacy') else damage.OF_ZIP


def damaged(good: Path, seeds: range) -> list[tuple[str, bytes]]:
    """Damaged copies of a file, each with the kind of damage and the seed."""
    whole = good.read_bytes()
    made = [(f'{way.__name__} {seed}', way(whole, random.Random(seed))) for way in ways(good.name) for seed in seeds]
    return [(name, data) for name, data in made if data != whole]


def outcomes(
    good: Path, found: dict[str, Callable[[str], Any]], made: list[tuple[str, bytes]], kind: str
) -> tuple[Counter[str], list[str]]:
    """Count the outcomes, and list those that are not allowed."""
    expected = {entry_point: load(str(good)) for entry_point, load in found.items()}
    bad = good.with_name(f'damaged{good.suffix}')
    counted, faults = Counter[str](), []
    for name, data in made:
        bad.write_bytes(data)
        for entry_point, load in found.items():
            began, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            said = outcome(load, bad, expected[entry_point])
            counted[said.split(':')[0]] += 1
            allowed = ('refused', 'equal', *(('warned', 'silent') if kind in UNVERIFIABLE else ()))
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024
            if said not in allowed or time.perf_counter() - began > SECONDS or grown > MEMORY:
                faults.append(f'{name} at {entry_point}: {said} (+{grown} bytes)')
    return counted, faults


@pytest.mark.parametrize('kind', ['delta.pth', 'plain.pth', 'task.safetensors'])
def test_some_damaged_files(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    """One file for each kind of damage, 40 files in all, at one entry point."""
    entry_point = 'resume' if kind == 'delta.pth' else 'load_checkpoint'
    found = {entry_point: entry_points(kind, str(files['base']), tmp_path / 'work')[entry_point]}
    good = tmp_path / kind
    good.write_bytes(files[kind].read_bytes())
    made = damaged(good, range(1))
    counted, faults = outcomes(good, found, made, kind)
    assert not faults
    assert counted['refused'] > len(made) // 2


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_damaged_files(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    good = tmp_path / kind
    good.write_bytes(files[kind].read_bytes())
    made = damaged(good, range(SEEDS))
    counted, faults = outcomes(good, entry_points(kind, str(files['base']), tmp_path / 'work'), made, kind)
    print(kind, len(made), 'files', dict(counted))
    assert not faults
    assert len(made) > SEEDS * len(ways(kind)) * 0.9


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['whole', 'delta'])
def test_damaged_files_in_host_functions_and_tools(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop = Workshop(tmp_path)
    _, path = workshop.task('cls', form=kind)
    made = damaged(Path(path), range(3))
    counted, faults = outcomes(Path(path), tools(kind, workshop, tmp_path), made, kind)
    print(kind, len(made), 'files', dict(counted))
    assert not faults


def test_every_changed_bit_of_a_file_of_another_program_is_detected(tmp_path: Path) -> None:
    """One bit of every fifth byte: the file is refused, or its tensors are the same."""
    state = {'a.weight': torch.arange(60.0).reshape(3, 20), 'b': torch.tensor(7), 'c': torch.zeros(0)}
    path = tmp_path / 'plain.pth'
    torch.save(state, path)
    whole, refused = path.read_bytes(), 0
    for at in range(0, len(whole), 5):
        data = bytearray(whole)
        data[at] ^= 1 << at // 5 % 8
        path.write_bytes(data)
        try:
            got = load_checkpoint_file(str(path))
        except CheckpointError as error:
            refused += 1
            assert 'plain.pth' in str(error)
            continue
        assert list(got) == list(state) and all(torch.equal(got[name], tensor) for name, tensor in state.items())
    assert refused > 200


def test_valid_archives_of_other_writers(tmp_path: Path) -> None:
    """Compressed, in another order, with 64-bit sizes, without CRCs, with an empty storage: all load."""
    state = {'a': torch.arange(60.0), 'b': torch.zeros(0), **{f'c{i}': torch.full((3,), float(i)) for i in range(12)}}
    path = tmp_path / 'x.pth'
    torch.save(state, path)
    whole = path.read_bytes()
    entries = damage._entries(whole)
    forms = [whole, damage._packed(entries), damage._packed(entries, 8)]
    forms.append(damage._packed([*entries[-3:], *entries[:-3]]))
    with zipfile.ZipFile(path, 'w') as archive:  # the sizes are stored in an extra field
        for name, content in entries:
            with archive.open(name, 'w', force_zip64=True) as entry:
                entry.write(content)
    forms.append(path.read_bytes())
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, path)
    finally:
        torch.serialization.set_crc32_options(True)
    for data in (*forms, path.read_bytes()):
        path.write_bytes(data)
        got = load_checkpoint_file(str(path))
        assert all(torch.equal(got[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize('kind', ['whole.pth', 'delta.pth'])
def test_missing_checksum_is_a_warning(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    """Another program saved the file again, so the checksum is missing, whether or not the content has changed."""
    content = torch.load(files[kind], weights_only=False)
    content['optimizer']['param_groups'][0]['lr'] = 7.0
    path = tmp_path / 'again.pth'
    torch.save(content, path)
    with Warnings() as warnings:
        loaded = load_checkpoint_file(str(path))
    (said,) = warnings.said
    assert 'again.pth was written by protuning_mm' in said and 'the checksum is missing' in said
    torch.save(loaded, path)  # the loader removes the writer's version, so a file that is saved again raises no warning
    with Warnings() as warnings:
        load_checkpoint_file(str(files[kind]))
        load_checkpoint_file(str(path))
        load_checkpoint(classifier(str(files['base'])), str(files[kind]))
    assert not [line for line in warnings.said if 'checksum' in line]


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (dict(state_dict=[torch.ones(1)]), "its 'state_dict' is a list"),
        (dict(state_dict={}, meta='x'), "its 'meta' is a str"),
        (dict(state_dict={}, message_hub=[]), "its 'message_hub' is a list"),
        (dict(state_dict={1: torch.ones(1)}), 'a tensor has the name 1'),
        ({1: torch.ones(1)}, 'a tensor has the name 1'),
        (dict(state_dict={'protuning_delta': 3}), 'record of this delta is damaged'),
        (dict(state_dict={'protuning_delta': torch.ones(3)}), 'record of this delta is damaged'),
        ([torch.ones(1)], 'holds a list'),
    ],
)
def test_parts_of_another_kind(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / 'odd.pth')
    with pytest.raises(CheckpointError, match=f'odd.pth.*{said}'):
        load_checkpoint_file(str(tmp_path / 'odd.pth'))
