"""Damaged, exchanged and malicious deltas: none loads silently, runs code or leaves a model partly loaded."""

import io
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.runner import load_checkpoint

from protuning_mm.weights import CheckpointError
from protuning_mm.weights.deltas import RECORD
from tests.plain import assert_identical, snapshot
from tests.test_weights.deltas import META, classifier, save_delta, trained
from tests.test_weights.test_safe_load import Evil
from tests.tiny import Weights, runner

Corrupt = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def zero_a_block(data: bytes, rng: random.Random) -> bytes:
    at, size = rng.randrange(len(data) - 1), rng.randrange(1, 5000)
    changed = data[:at] + b'\xff' * len(data[at : at + size]) + data[at + size :]
    return changed if changed != data else flip(data, rng)


def swap_blocks(data: bytes, rng: random.Random) -> bytes:
    size = 512
    first, second = sorted(rng.sample(range(len(data) // size), 2))
    a, b = data[first * size :][:size], data[second * size :][:size]
    changed = data[: first * size] + b + data[(first + 1) * size : second * size] + a + data[(second + 1) * size :]
    return changed if changed != data else flip(data, rng)


def repeat_a_part(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at : at + 100] + data[at:]


CORRUPTIONS: list[Corrupt] = [flip, truncate, zero_a_block, swap_blocks, repeat_a_part]
SEEDS = 60  # for each kind and ending


@pytest.mark.parametrize('ending', ['.pth', '.safetensors'])
@pytest.mark.parametrize('corrupt', CORRUPTIONS)
def test_corrupted_file(corrupt: Corrupt, ending: str, tmp_path: Path, weights: Weights) -> None:
    """600 seeded corruptions: each file is refused with a clear error, and the model is unchanged."""
    path = save_delta(trained(weights('mmdet', depth=18)), tmp_path / f'delta{ending}')
    whole = path.read_bytes()
    model = classifier(None)
    before = snapshot(model)
    for seed in range(SEEDS):
        path.write_bytes(corrupt(whole, random.Random(seed)))
        with pytest.raises(CheckpointError):
            load_checkpoint(model, str(path))
    assert_identical(model.state_dict(), before)
    path.write_bytes(whole)
    load_checkpoint(model, str(path))


def test_corrupted_tensors_that_torch_has_loaded(tmp_path: Path, weights: Weights) -> None:
    """``torch.load`` and ``load_state_dict`` by hand: one changed bit of any tensor is detected."""
    model = trained(weights('mmdet', depth=18))
    state = torch.load(save_delta(model, tmp_path / 'delta.pth'), weights_only=True)['state_dict']
    other = classifier(None)
    before = snapshot(other)
    rng = random.Random(0)
    for name in state:
        changed = {key: tensor.clone() for key, tensor in state.items()}
        raw = changed[name].view(-1).view(torch.uint8)
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        with pytest.raises(CheckpointError, match='changed' if name != RECORD else 'record|format'):
            other.load_state_dict(changed)
    assert_identical(other.state_dict(), before)


def test_exchanged_extra_and_missing_tensors(tmp_path: Path, weights: Weights) -> None:
    """Two tensors of one shape with exchanged names, one extra tensor, one missing tensor."""
    model = trained(weights('mmdet', depth=18))
    content = torch.load(save_delta(model, tmp_path / 'delta.pth'), weights_only=True)
    state = content['state_dict']
    first, second = 'backbone.prompts.0.norm1.weight', 'backbone.prompts.0.norm1.bias'
    with pytest.raises(CheckpointError, match='2 changed'):
        classifier(None).load_state_dict({**state, first: state[second], second: state[first]})
    with pytest.raises(CheckpointError, match='1 not in the record'):
        classifier(None).load_state_dict({**state, 'head.extra': torch.zeros(3)})
    torch.save(dict(state_dict={k: v for k, v in state.items() if k != first}), tmp_path / 'less.pth')
    with pytest.raises(CheckpointError, match=f'1 missing:\n    {first}'):
        load_checkpoint(classifier(None), str(tmp_path / 'less.pth'))


def test_record_of_another_delta(tmp_path: Path, weights: Weights) -> None:
    base = weights('mmdet', depth=18)
    one, other = (
        torch.load(save_delta(trained(base, seed=s), tmp_path / f'{s}.pth'), weights_only=True) for s in (1, 2)
    )
    with pytest.raises(CheckpointError, match='does not match its own record'):
        classifier(None).load_state_dict({**one['state_dict'], RECORD: other['state_dict'][RECORD]})


def test_written_again_by_another_program(tmp_path: Path, weights: Weights) -> None:
    """Such as mmdet's publish_model.py: the checksum is missing, but the record still detects changes."""
    model = trained(weights('mmdet', depth=18))
    content = torch.load(save_delta(model, tmp_path / 'delta.pth'), weights_only=True)
    torch.save(content, tmp_path / 'again.pth')
    other = classifier(None)
    load_checkpoint(other, str(tmp_path / 'again.pth'))
    assert_identical(other.state_dict(), snapshot(model))
    content['state_dict']['head.bias'][0] += 1
    torch.save(content, tmp_path / 'again.pth')
    with pytest.raises(CheckpointError, match='head.bias'):
        load_checkpoint(classifier(None), str(tmp_path / 'again.pth'))


@pytest.mark.parametrize('place', ['meta', 'state_dict', 'optimizer', 'message_hub'])
@pytest.mark.parametrize('checksum', [True, False])
def test_delta_that_would_run_code(place: str, checksum: bool, tmp_path: Path, weights: Weights) -> None:
    """A valid record and a valid checksum do not help: the pickle is refused before it runs."""
    from protuning_mm.weights.checksum import append_checksum

    trap = tmp_path / 'executed'
    content = torch.load(save_delta(trained(weights('mmdet', depth=18)), tmp_path / 'd.pth'), weights_only=True)
    content.setdefault(place, {})['evil'] = Evil(trap)
    file = io.BytesIO()
    torch.save(content, file)
    path = tmp_path / 'evil.pth'
    path.write_bytes(append_checksum(file.getvalue()) if checksum else file.getvalue())
    with pytest.raises(CheckpointError, match='would run code'):
        load_checkpoint(classifier(None), str(path))
    assert not trap.exists()


def test_base_that_would_run_code(tmp_path: Path, weights: Weights) -> None:
    base = tmp_path / 'base.pth'
    shutil.copy(weights('mmdet', depth=18), base)
    path = save_delta(trained(str(base)), tmp_path / 'delta.pth')
    torch.save(dict(state_dict={}, extra=Evil(tmp_path / 'executed')), base)
    with pytest.raises(CheckpointError, match='would run code'):
        load_checkpoint(classifier(None), str(path))
    assert not (tmp_path / 'executed').exists()


def test_delta_of_another_number_of_classes_as_a_start(tmp_path: Path, weights: Weights) -> None:
    """``load_from``: the prompts are loaded, the head keeps its initial values, and the log says so."""
    base = weights('mmdet', depth=18)
    model = trained(base)
    path = save_delta(model, tmp_path / 'delta.pth')
    other = classifier(base, num_classes=5)
    run = runner(other, tmp_path / 'run', load_from=str(path))
    run.load_or_resume()
    assert_identical(other.backbone.state_dict(), snapshot(model.backbone))
    log = next((tmp_path / 'run').rglob('*.log')).read_text()
    assert 'head.weight: (3, 32) in the checkpoint, (5, 32) in the model' in log
    assert len(META['classes']) == 3


KILLED = """
import os, signal, sys
import torch
from mmengine.runner import load_checkpoint
from tests.test_weights.deltas import classifier

path, calls = sys.argv[1], int(sys.argv[2])
model = classifier(None)
copy = torch.Tensor.copy_

def killed(*args, **kwargs):
    global calls
    calls -= 1
    if calls == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return copy(*args, **kwargs)

torch.Tensor.copy_ = killed
load_checkpoint(model, path)
"""


@pytest.mark.parametrize('calls', [30, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 130))])
def test_killed_while_loading(calls: int, tmp_path: Path, weights: Weights) -> None:
    """Loading writes nothing: delta and base are unchanged, and the next load succeeds."""
    model = trained(weights('mmdet', depth=18))
    path = save_delta(model, tmp_path / 'delta.pth')
    before = path.read_bytes(), Path(weights('mmdet', depth=18)).read_bytes()
    done = subprocess.run([sys.executable, '-c', KILLED, str(path), str(calls)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert (path.read_bytes(), Path(weights('mmdet', depth=18)).read_bytes()) == before
    assert list(tmp_path.iterdir()) == [path]
    other = classifier(None)
    load_checkpoint(other, str(path))
    assert_identical(other.state_dict(), snapshot(model))
