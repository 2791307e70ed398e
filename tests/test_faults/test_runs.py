"""What happens to runs: two in one folder, folders that cannot be written, full disks, kills, unusual names."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.visualization import LocalVisBackend

from protuning_mm.cli import train as train_tool
from protuning_mm.engine import work_dir
from protuning_mm.engine.work_dir import WorkDirError, lock_work_dir
from protuning_mm.weights.checksum import verify_checksum
from tests.mini import REPO, write_ade, write_config
from tests.test_engine.test_resume_grid import HOOKS, LAST, SAVED, SEGMENTOR, differing, train

LOCK = """
import sys, time
from protuning_mm.engine import work_dir
from protuning_mm.engine.work_dir import lock_work_dir
with lock_work_dir(sys.argv[1]):
    print('locked', flush=True)
    time.sleep(60)
"""


def other_run(folder: Path, code: str = LOCK) -> subprocess.Popen:
    run = subprocess.Popen([sys.executable, '-c', code, str(folder)], stdout=subprocess.PIPE, text=True, cwd=REPO)
    assert run.stdout is not None and run.stdout.readline() == 'locked\n'
    return run


def test_two_runs_in_one_work_dir(tmp_path: Path) -> None:
    """The second is refused and told of the first; when the first is killed, the folder is free at once."""
    first = other_run(tmp_path / 'run')
    try:
        with (
            pytest.raises(WorkDirError, match=f'another run is writing.*process {first.pid} on'),
            lock_work_dir(tmp_path / 'run'),
        ):
            pass
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with lock_work_dir(tmp_path / 'run'):
        pass
    with lock_work_dir(tmp_path / 'run'), lock_work_dir(tmp_path / 'another'):
        pass


def test_forked_loader_workers_do_not_keep_the_lock(tmp_path: Path) -> None:
    """A killed run leaves a worker behind, which a fork made while the run held the lock."""
    fork = 'import os; (child := os.fork()) or time.sleep(60); print(child, flush=True); time.sleep(60)'
    first = other_run(tmp_path / 'run', LOCK.replace('time.sleep(60)', fork))
    assert first.stdout is not None
    child = int(first.stdout.readline())
    try:
        first.kill()
        first.wait()
        os.kill(child, 0)  # it lives
        with lock_work_dir(tmp_path / 'run'):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize('number', [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on without a lock, and the log says so."""

    def refuses(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    said: list[str] = []
    monkeypatch.setattr(fcntl, 'flock', refuses)
    monkeypatch.setattr(work_dir, 'print_log', lambda text, *args: said.append(text))
    with lock_work_dir(tmp_path):
        assert len(said) == 1 and f'cannot be locked ({os.strerror(number)})' in said[0]


def test_second_run_through_the_tool(tmp_path: Path) -> None:
    config = write_config('fcn', tmp_path)
    first = other_run(tmp_path / 'run')
    try:
        with pytest.raises(SystemExit, match='error: another run is writing to work dir'):
            train_tool.main([str(config), '--work-dir', str(tmp_path / 'run')])
    finally:
        first.kill()
        first.wait()
    assert [p.name for p in (tmp_path / 'run').iterdir()] == ['.lock']


def test_ranks_of_one_run_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock_work_dir(tmp_path):
        monkeypatch.setenv('RANK', '1')
        with lock_work_dir(tmp_path):
            pass


def test_work_dir_below_a_file(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    said = 'cannot be written: (Not a directory|File exists).*--work-dir'
    with pytest.raises(WorkDirError, match=said), lock_work_dir(tmp_path / 'file/run'):
        pass


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_work_dir_that_cannot_be_written(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only file system, another's folder, a full disk: told before training."""

    def refuses(self: Path, *args: Any, **kwargs: Any) -> Any:
        raise OSError(number, os.strerror(number), str(self))

    config = write_config('fcn', tmp_path)
    monkeypatch.setattr(Path, 'mkdir', refuses)
    with pytest.raises(SystemExit, match=f'error: work dir .* cannot be written: {os.strerror(number)}'):
        train_tool.main([str(config), '--work-dir', str(tmp_path / 'run')])


def test_disk_that_fills_up_under_the_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exit with the reason; what was saved before is whole."""
    config = write_config('fcn', tmp_path, extra='\ntrain_cfg = dict(max_iters=4, val_interval=9)\n')
    config.write_text(config.read_text() + "default_hooks['checkpoint'].update(interval=1)\n")
    write = LocalVisBackend.add_scalars

    def full(self: LocalVisBackend, scalars: dict, step: int = 0, *args: Any, **kwargs: Any) -> None:
        if step >= 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'scalars.json')
        write(self, scalars, step, *args, **kwargs)

    monkeypatch.setattr(LocalVisBackend, 'add_scalars', full)
    with pytest.raises(SystemExit, match='error: No space left on device: scalars.json.*--resume'):
        train_tool.main([str(config), '--work-dir', str(tmp_path / 'run')])
    saved = sorted(p.name for p in (tmp_path / 'run').glob('*.pth'))
    assert saved[0] == 'iter_1.pth' and all(verify_checksum(tmp_path / 'run' / name) for name in saved)


@pytest.mark.slow
@pytest.mark.parametrize('hook', HOOKS)
def test_killed_during_validation(hook: str, tmp_path: Path) -> None:
    """Nothing of the validation is needed, and nothing half-written is left: the resumed run ends as one in one go."""
    extra = f"""
randomness = dict(seed=7)
default_hooks['checkpoint'].update(by_epoch=False, interval={SAVED}, save_best='mIoU')
""" + SEGMENTOR.replace('val_interval=100', f'val_interval={SAVED}')
    config = write_config('fcn', tmp_path, extra, write_ade(tmp_path / 'ade', 6))
    train(config, tmp_path / 'whole', hook, 1)
    train(config, tmp_path / 'killed', hook, 1, -1)
    assert [p.name for p in (tmp_path / 'killed').glob('*.pth')] == [f'iter_{SAVED}.pth']
    train(config, tmp_path / 'killed', hook, 1, 0, '--resume')
    one, other = (torch.load(tmp_path / run / f'iter_{LAST}.pth', weights_only=False) for run in ('whole', 'killed'))
    assert differing(one['state_dict'], other['state_dict']) == []
    assert not [p.name for p in (tmp_path / 'killed').rglob('*.part')]


NAMES = ['with space', 'ünïcödé – 画像', "quote's", 'a#b%20c&d', 'dots...']


@pytest.mark.parametrize('name', [NAMES[1], *(pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n != NAMES[1])])
def test_names_with_anything_in_them(name: str, tmp_path: Path) -> None:
    """Data root, config, weights and work dir in such a folder: train, resume and test."""
    folder = tmp_path / name
    folder.mkdir()
    if "'" in name:  # write_config puts paths between single quotes
        config = write_config('fcn', tmp_path)
        folder = tmp_path
    else:
        config = write_config('fcn', folder)
    run = tmp_path / name / 'the run'
    train_tool.main([str(config), '--work-dir', str(run)])
    train_tool.main([str(config), '--work-dir', str(run), '--resume', '--cfg-options', 'train_cfg.max_iters=4'])
    assert (run / 'iter_4.pth').is_file() and (run / 'last_checkpoint').read_text() == str(run / 'iter_4.pth')


DUMP = """
import os, signal, sys
from mmengine.fileio import dump
from protuning_mm.patches import patch_file_writing
patch_file_writing()
dump(['first'], sys.argv[1])
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
dump(['second'], sys.argv[1])
"""


@pytest.mark.parametrize('ending', ['.pkl', '.json'])
def test_killed_while_results_are_written(ending: str, tmp_path: Path) -> None:
    """Predictions and results that mmengine dumps: the old file is whole."""
    from mmengine.fileio import load

    path = tmp_path / f'results{ending}'
    done = subprocess.run([sys.executable, '-c', DUMP, str(path)], check=False, cwd=REPO)
    assert done.returncode == -signal.SIGKILL
    assert load(path) == ['first']
