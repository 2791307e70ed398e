"""CheckpointHook: at every moment of a run, what was promised is on disk, whole."""

import builtins
import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import find_latest_checkpoint

from protuning_mm.weights.atomic import write_atomically
from protuning_mm.weights.checksum import verify_checksum
from tests.plain import assert_identical, snapshot
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet


def hook(**kwargs: Any) -> dict[str, Any]:
    return dict(
        checkpoint=dict(**{'type': 'protuning_mm.CheckpointHook', 'interval': 1, **kwargs}),
        tuning=dict(type='protuning_mm.TuningHook'),
    )


def model(weights: Weights) -> TinyClassifier:
    return TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))


def files(folder: Path) -> list[str]:
    """Everything but the dumped config, hidden files included."""
    return sorted(p.name for p in folder.iterdir() if p.is_file() and p.suffix != '.py')


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location='cpu', weights_only=False)


@pytest.mark.parametrize(
    ('keep', 'left'),
    [
        (-1, ['epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth']),
        (1, ['epoch_4.pth']),
        (2, ['epoch_3.pth', 'epoch_4.pth']),
    ],
)
def test_max_keep_ckpts(keep: int, left: list[str], tmp_path: Path, weights: Weights) -> None:
    """What is left is whole, the last holds the model's weights, the pointer names it; nothing else lies about."""
    classifier = model(weights)
    run = runner(classifier, tmp_path / 'run', epochs=4, default_hooks=hook(max_keep_ckpts=keep))
    run.train()
    assert files(tmp_path / 'run') == sorted([*left, 'last_checkpoint'])
    assert find_latest_checkpoint(str(tmp_path / 'run')) == str(tmp_path / 'run/epoch_4.pth')
    for name in left:
        assert load(tmp_path / 'run' / name)['meta']['epoch'] == int(name[6])
    last = load(tmp_path / 'run/epoch_4.pth')
    assert_identical(last['state_dict'], snapshot(classifier))
    assert 'optimizer' in last


def test_max_keep_ckpts_after_resume(tmp_path: Path, weights: Weights) -> None:
    """A resumed run goes on deleting where the first one stopped."""
    keep = dict(default_hooks=hook(max_keep_ckpts=1))
    runner(model(weights), tmp_path / 'run', epochs=2, **keep).train()
    runner(model(weights), tmp_path / 'run', epochs=4, resume=True, **keep).train()
    assert files(tmp_path / 'run') == ['epoch_4.pth', 'last_checkpoint']


def test_what_a_kill_left_behind_goes_with_the_next_run(tmp_path: Path, weights: Weights) -> None:
    settings = dict(default_hooks=hook(max_keep_ckpts=1))
    runner(model(weights), tmp_path / 'run', epochs=2, **settings).train()
    # killed after epoch_2.pth was written and before epoch_1.pth was deleted; epoch_7.pth is none of ours
    for name in ('epoch_1.pth', 'epoch_7.pth'):
        shutil.copy(tmp_path / 'run/epoch_2.pth', tmp_path / 'run' / name)
    resumed = runner(model(weights), tmp_path / 'run', epochs=3, resume=True, **settings)
    resumed.train()
    assert [path for path in files(tmp_path / 'run') if path.endswith('.pth')] == ['epoch_3.pth', 'epoch_7.pth']


def test_by_iteration(tmp_path: Path, weights: Weights) -> None:
    """Saved by iteration, as the segmentors do."""
    run = runner(
        model(weights),
        tmp_path / 'run',
        epochs=3,
        default_hooks=hook(by_epoch=False, interval=2, max_keep_ckpts=2),
    )
    run.train()
    assert files(tmp_path / 'run') == ['iter_4.pth', 'iter_6.pth', 'last_checkpoint']


def test_save_best(tmp_path: Path, weights: Weights) -> None:
    """Every validation is a new best: the newest best and the newest checkpoint are left."""
    run = runner(
        model(weights),
        tmp_path / 'run',
        epochs=3,
        default_hooks=hook(max_keep_ckpts=1, save_best='score', rule='greater'),
    )
    run.train()
    assert files(tmp_path / 'run') == ['best_score_epoch_3.pth', 'epoch_3.pth', 'last_checkpoint']
    best = load(tmp_path / 'run/best_score_epoch_3.pth')
    assert_identical(best['state_dict'], load(tmp_path / 'run/epoch_3.pth')['state_dict'])


@pytest.mark.parametrize('save_best', [None, 'score'])
def test_order(save_best: str | None, tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync, rename, sync the folder, move the pointer; a checkpoint is removed only after its successor stands."""
    seen: list[tuple[str, str]] = []
    for name in ('fsync', 'replace', 'remove'):
        original = getattr(os, name)

        def spy(*args: Any, _name: str = name, _original: Any = original) -> Any:
            seen.append((_name, '' if _name == 'fsync' else Path(args[-1]).name))
            return _original(*args)

        monkeypatch.setattr(os, name, spy)
    run = runner(
        model(weights),
        tmp_path / 'run',
        epochs=2,
        default_hooks=hook(max_keep_ckpts=1, save_best=save_best, rule='greater'),
    )
    run.train()

    def save(name: str) -> list[tuple[str, str]]:
        return [('fsync', ''), ('replace', name), ('fsync', '')]

    pointer = save('last_checkpoint')
    if save_best is None:
        first = save('epoch_1.pth') + pointer
        second = save('epoch_2.pth') + pointer + [('remove', 'epoch_1.pth')]
        assert seen == first + second
        return
    for old, new in (('epoch_1.pth', 'epoch_2.pth'), ('best_score_epoch_1.pth', 'best_score_epoch_2.pth')):
        assert seen.index(('replace', new)) < seen.index(('remove', old))
    assert [name for what, name in seen if what == 'remove'] == [
        'epoch_1.pth',
        'best_score_epoch_1.pth',
    ]


@pytest.mark.parametrize(
    ('failing', 'save_best', 'kind'),
    [
        ('fsync', None, 'CheckpointHook'),
        ('write', 'score', 'CheckpointHook'),
        ('write', 'score', 'DeltaCheckpointHook'),
        pytest.param('replace', None, 'CheckpointHook', marks=pytest.mark.slow),
        pytest.param('write', None, 'CheckpointHook', marks=pytest.mark.slow),
        pytest.param('fsync', 'score', 'CheckpointHook', marks=pytest.mark.slow),
        pytest.param('fsync', None, 'DeltaCheckpointHook', marks=pytest.mark.slow),
        pytest.param('replace', 'score', 'DeltaCheckpointHook', marks=pytest.mark.slow),
    ],
)
def test_full_disk_leaves_the_previous_checkpoint(
    failing: str,
    save_best: str | None,
    kind: str,
    tmp_path: Path,
    weights: Weights,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ENOSPC in the second epoch's save: the first epoch's checkpoint and the pointer to it are whole."""
    kept = dict(max_keep_ckpts=1, save_best=save_best, rule='greater')
    settings = dict(default_hooks=hook(type=f'protuning_mm.{kind}', **kept))
    classifier = model(weights)
    runner(classifier, tmp_path / 'run', epochs=1, **settings).train()
    before = files(tmp_path / 'run')
    expected = snapshot(classifier)

    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(errno.ENOSPC, 'No space left on device')

    if failing == 'write':
        original = io.open

        def small_disk(path: Any, mode: str = 'r', *args: Any, **kwargs: Any) -> Any:
            if mode != 'wb':
                return original(path, mode, *args, **kwargs)
            original(path, mode).close()  # the name is there, with nothing in it
            return FullFile()

        class FullFile(io.BytesIO):
            def write(self, data: Any) -> int:
                return full()

        monkeypatch.setattr(io, 'open', small_disk)  # pathlib's
        monkeypatch.setattr(builtins, 'open', small_disk)
    else:
        monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match='No space left'):
        runner(model(weights), tmp_path / 'run', epochs=2, resume=True, **settings).train()
    monkeypatch.undo()

    assert files(tmp_path / 'run') == before  # no half file is left either
    latest = find_latest_checkpoint(str(tmp_path / 'run'))
    assert latest == str(tmp_path / 'run/epoch_1.pth')
    state = load(Path(latest))['state_dict']
    trained = {name for name, param in classifier.named_parameters() if param.requires_grad}
    assert_identical(state, expected if kind == 'CheckpointHook' else {name: expected[name] for name in trained})
    if save_best:
        load(tmp_path / 'run/best_score_epoch_1.pth')
    # with space again, the run resumes and ends as it should
    runner(model(weights), tmp_path / 'run', epochs=2, resume=True, **settings).train()
    assert 'epoch_2.pth' in files(tmp_path / 'run')
    assert 'epoch_1.pth' not in files(tmp_path / 'run')


def check_killed_runs(
    tmp_path: Path, weights: Weights, first: int, step: int, best: str, hook: str = 'CheckpointHook'
) -> list[str]:
    """Kill runs at every ``step``-th moment; return what was under way at each."""
    out = tmp_path / 'runs'
    out.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'tests.test_engine.killed_run', str(out)),
            *(weights('mmdet', depth=18), str(first), str(step), best, hook),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    never_reached, status = map(int, done.stdout.split()[-2:])
    assert status == 0, done.stderr[-2000:]
    moments = []
    for moment in range(first, never_reached, step):
        what = (out / f'{moment}.moment').read_text()
        moments.append(what)
        latest = find_latest_checkpoint(str(out / str(moment)))
        assert latest is not None and Path(latest).is_file(), f'killed at {what}: {latest}'
        for path in (out / str(moment)).glob('*.pth'):  # none of them is half a file
            assert {'state_dict', 'meta'} <= set(load(path)) and verify_checksum(path), f'killed at {what}'
        if best != 'none' and any(name.startswith('after replace') and 'best' in name for name in moments):
            assert list((out / str(moment)).glob('best_*.pth')), f'killed at {what}: no best left'
    return moments


# The first save is its checkpoint (7 moments: half, two syncs, a rename, each but the first before and after) and the
# pointer (7 more): from the 15th moment on there is a checkpoint to lose.
SAVED_ONCE = 15


@pytest.mark.parametrize('hook', [pytest.param('CheckpointHook', marks=pytest.mark.slow), 'DeltaCheckpointHook'])
def test_killed_at_some_moments(hook: str, tmp_path: Path, weights: Weights) -> None:
    """kill -9 while writing, max_keep_ckpts=1 and save_best: a whole checkpoint is always pointed to."""
    moments = check_killed_runs(tmp_path, weights, SAVED_ONCE, 13, 'score', hook)
    assert len(moments) >= 4


@pytest.mark.slow
@pytest.mark.parametrize('hook', ['CheckpointHook', 'DeltaCheckpointHook'])
@pytest.mark.parametrize('best', ['none', 'score'])
def test_killed_at_every_moment(best: str, hook: str, tmp_path: Path, weights: Weights) -> None:
    moments = check_killed_runs(tmp_path, weights, SAVED_ONCE, 1, best, hook)
    for kind in ('half of', 'before fsync', 'after fsync', 'before replace', 'before remove'):
        assert any(moment.startswith(kind) for moment in moments), kind


def test_write_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old content or the new, never a mixture, and a folder that did not exist."""
    path = tmp_path / 'new/folder/file'
    write_atomically(b'old', path)
    monkeypatch.setattr(os, 'replace', lambda *a: (_ for _ in ()).throw(OSError('no')))
    with pytest.raises(OSError, match='no'):
        write_atomically(b'new', path)
    assert path.read_bytes() == b'old' and files(path.parent) == ['file']
    monkeypatch.undo()
    write_atomically(b'new', path)
    assert path.read_bytes() == b'new' and files(path.parent) == ['file']
