"""Safe loading: a file that would run code is refused, and a damaged file is reported as damaged."""

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from protuning_mm.weights import CheckpointError, load_checkpoint_file, safe_torch_load
from tests.plain import snapshot
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class EvilThroughGetattr(Evil):
    """Reaches `os.mkdir` through attributes of an allowed object, which mmengine's own list of globals would permit."""

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (HistoryBuffer, '__init__')


FORMATS: dict[str, Callable[[Any, Path], Any]] = {
    'zip': torch.save,
    'legacy': lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
    'bare pickle': lambda content, path: path.write_bytes(pickle.dumps(content)),
    'pickle protocol 2': lambda content, path: path.write_bytes(pickle.dumps(content, 2)),
}


def entry_points(path: str, work_dir: Path) -> dict[str, Callable[[], Any]]:
    """Every function that loads a checkpoint file."""

    def run(resume: bool) -> None:
        model = TinyClassifier(tuned_resnet(allow_random_backbone=True))
        runner(model, work_dir, load_from=path, resume=resume).load_or_resume()

    return {
        'ours': lambda: safe_torch_load(path),
        'ours, weights_only=False': lambda: safe_torch_load(path, weights_only=False),
        'mmengine load_checkpoint': lambda: load_checkpoint(nn.Linear(1, 1), path),
        'mmengine CheckpointLoader': lambda: CheckpointLoader.load_checkpoint(path, 'cpu'),
        'init_cfg of our backbone': lambda: tuned_resnet(path),
        'load_from': lambda: run(resume=False),
        'resume': lambda: run(resume=True),
    }


ENTRY_POINTS = list(entry_points('', Path()))


@pytest.mark.parametrize('entry_point', ENTRY_POINTS)
def test_pickle_with_code_is_refused_and_not_run(entry_point: str, tmp_path: Path) -> None:
    trap, path = tmp_path / 'executed', tmp_path / 'evil.pth'
    for name, write in FORMATS.items():
        write(dict(state_dict={'w': torch.ones(2)}, extra=Evil(trap)), path)
        # torch's unpickler does not support the newest protocol
        said = 'cannot be read' if name == 'bare pickle' else 'would run code'
        with pytest.raises(CheckpointError, match=f'evil.pth.*{said}') as caught:
            entry_points(str(path), tmp_path / 'run')[entry_point]()
        assert not trap.exists(), f'{name}: the code was executed'
        assert 'weights_only' not in str(caught.value)  # torch recommends unsafe loading
    with path.open('rb') as file:  # the trap works without protection
        pickle.load(file)
    assert trap.exists()


def test_getattr_does_not_bypass_the_check(tmp_path: Path) -> None:
    path = tmp_path / 'evil.pth'
    for write in FORMATS.values():
        write(dict(state_dict={}, extra=EvilThroughGetattr(tmp_path)), path)
        with pytest.raises(CheckpointError):
            safe_torch_load(path)


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    'truncated in half': lambda whole: whole[: len(whole) // 2],
    'last bytes missing': lambda whole: whole[:-30],
    'first bytes only': lambda whole: whole[:10],
    'empty': lambda whole: b'',
    'random': lambda whole: np.random.default_rng(0).bytes(4000),
    'text': lambda whole: b'<html><body>404 Not Found</body></html>',
    'json': lambda whole: b'{"state_dict": {}}',
    'zeros': lambda whole: bytes(1000),
}


@pytest.mark.parametrize('damage', list(DAMAGED))
@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_damaged_file_is_named(kind: str, damage: str, weights: Weights, tmp_path: Path) -> None:
    """Any damage gives a CheckpointError with the file's name, from the loader and from init_cfg."""
    path = tmp_path / 'broken.pth'
    FORMATS[kind](torch.load(weights('mmdet', depth=18), weights_only=True), path)
    path.write_bytes(DAMAGED[damage](path.read_bytes()))
    for load in (safe_torch_load, load_checkpoint_file, tuned_resnet):
        with pytest.raises(CheckpointError, match='broken.pth cannot be read as a checkpoint'):
            load(str(path))


@pytest.mark.parametrize('kind', ['zip', 'legacy'])
def test_mmengine_s_own_contents_load(kind: str, tmp_path: Path) -> None:
    """Message hub, history buffers, numpy arrays and scalars come back with their values."""
    history = HistoryBuffer([1.0, 2.0, 4.0], [1, 1, 2])
    content = dict(
        state_dict={'w': torch.arange(3)},
        message_hub=dict(log_scalars={'train/loss': history}, runtime_info={'iter': 3}),
        scalars=[np.float64(0.5), np.float32(0.25), np.int64(3), np.int32(4), np.uint32(5)],
        array=np.arange(6).reshape(2, 3),
        window=slice(1, 5, 2),
    )
    FORMATS[kind](content, tmp_path / 'file.pth')
    loaded = safe_torch_load(tmp_path / 'file.pth')
    assert loaded['scalars'] == content['scalars']
    assert [type(s) for s in loaded['scalars']] == [type(s) for s in content['scalars']]
    assert np.array_equal(loaded['array'], content['array'])
    assert loaded['window'] == slice(1, 5, 2)
    buffer = loaded['message_hub']['log_scalars']['train/loss']
    assert buffer.mean() == history.mean() == 7 / 4
    assert buffer.statistics('max') == 4.0


def test_real_checkpoint_of_a_runner_loads(tmp_path: Path, weights: Weights) -> None:
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    runner(model, tmp_path / 'run', epochs=1).train()
    loaded = safe_torch_load(tmp_path / 'run/epoch_1.pth')
    expected = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)
    assert set(loaded) == set(expected) >= {'state_dict', 'optimizer', 'message_hub', 'meta'}
    loss = expected['message_hub']['log_scalars']['train/loss']
    assert loaded['message_hub']['log_scalars']['train/loss'].mean() == loss.mean()


def test_config_text_in_a_checkpoint_is_never_executed(tmp_path: Path, weights: Weights) -> None:
    """Runner.resume would parse meta['config'], Python source that old checkpoints hold."""
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    runner(model, tmp_path / 'a', epochs=1).train()
    path = tmp_path / 'a/epoch_1.pth'
    checkpoint = torch.load(path, weights_only=False)
    trap = tmp_path / 'executed'
    source = f'import os\nos.mkdir({str(trap)!r})\ngpu_ids = [0]\n'
    checkpoint['meta']['config'] = source
    torch.save(checkpoint, path)
    model = TinyClassifier(tuned_resnet())
    run = runner(model, tmp_path / 'b', resume=True, load_from=str(path))
    run.load_or_resume()
    assert run.epoch == 1
    assert not trap.exists()
    assert 'config' not in load_checkpoint_file(str(path))['meta']
    exec(source)  # the trap works
    assert trap.exists()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Replace the network: every URL returns this file."""
    file = tmp_path / 'served.pth'

    def download(url: str, target: str, *args: object, **kwargs: object) -> None:
        Path(target).write_bytes(file.read_bytes())

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch_home'))
    return file


def test_downloaded_files_are_checked_too(served: Path, tmp_path: Path) -> None:
    """A pickle with code, a damaged file and the text of a config at a URL."""
    trap = tmp_path / 'executed'
    torch.save(dict(state_dict={}, extra=Evil(trap)), served)
    with pytest.raises(CheckpointError, match='https://some.where/evil.pth.*would run code'):
        load_checkpoint(nn.Linear(1, 1), 'https://some.where/evil.pth')
    assert not trap.exists()

    served.write_bytes(b'<html>404</html>')
    with pytest.raises(CheckpointError, match='https://some.where/page.pth cannot be read'):
        load_checkpoint_file('https://some.where/page.pth')
    torch.save({'w': torch.ones(300)}, served)
    served.write_bytes(served.read_bytes()[:700])
    with pytest.raises(CheckpointError, match='https://some.where/half.pth cannot be read'):
        load_checkpoint_file('https://some.where/half.pth')

    torch.save(dict(state_dict={}, meta=dict(config='import os', epoch=1)), served)
    assert load_checkpoint_file('https://some.where/config.pth')['meta'] == dict(epoch=1)


def test_refused_file_leaves_the_model_unchanged(weights: Weights, tmp_path: Path) -> None:
    tuned = tuned_resnet(weights('mmdet', depth=18))
    before = snapshot(tuned)
    path = tmp_path / 'half.pth'
    path.write_bytes(Path(weights('mmdet', depth=18)).read_bytes()[:5000])
    with pytest.raises(CheckpointError):
        load_checkpoint(tuned, str(path))
    assert all(torch.equal(t, before[k]) for k, t in tuned.state_dict().items())


@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_arbitrary_bytes_are_reported_as_damaged(tmp_path: Path) -> None:
    """Random bytes are a random pickle program, which can fail with any exception."""
    path = tmp_path / 'x.pth'
    for seed in range(500):
        path.write_bytes(random.Random(seed).randbytes(1000))
        with pytest.raises(CheckpointError, match='cannot be read as a checkpoint|would run code'):
            safe_torch_load(path)


@pytest.mark.parametrize('write', FORMATS.values(), ids=FORMATS)
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_changed_bytes_load_or_are_refused(write: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    path = tmp_path / 'x.pth'
    write(dict(state_dict={'a': torch.randn(3, 4)}, meta=dict(epoch=1)), path)
    whole, refused = path.read_bytes(), 0
    for seed in range(200):
        draw, content = random.Random(seed), bytearray(whole)
        for _ in range(3):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content)
        try:
            safe_torch_load(path)
        except CheckpointError:
            refused += 1
    assert refused > 10
