"""Several processes, kills and interruptions: what is done stays, and every result is the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from protuning_lab.study import read_study
from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.grid import Cell, list_groups
from protuning_lab.study.run_loop import make_job
from protuning_lab.study.workers import Workers
from tests.mini import REPO
from tests.test_lab.test_study.toy import write_study

pytestmark = pytest.mark.slow
TOOL = REPO / 'tools/study.py'
SAME = ('val', 'test', 'trained_weights', 'config_hash', 'peak_memory_mib')


def start(*args: object) -> subprocess.Popen[str]:
    """As a terminal starts it: Ctrl-C is heard, even if these tests run in the background of a shell that mutes it."""
    command = [sys.executable, str(TOOL), *map(str, args)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(*args: object, code: int = 0) -> str:
    process = start(*args)
    printed, _ = process.communicate()
    assert process.returncode == code, printed[-3000:]
    return printed


def results(work_dir: Path) -> dict[str, dict[str, Any]]:
    cells = work_dir / 'cells'
    found = {str(p.parent.relative_to(cells)): json.loads(p.read_text()) for p in sorted(cells.rglob('result.json'))}
    return {name: {key: each[key] for key in SAME} for name, each in found.items()}


def wait_for(work_dir: Path, number: int) -> None:
    for _ in range(1200):
        if len(list(work_dir.glob('cells/*/*/result.json'))) >= number:
            return
        time.sleep(0.05)
    raise AssertionError(f'{number} results were not written in time')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp('study')
    write_study(found)
    run(found / 'toy.py')
    assert len(results(found / 'work')) == 12
    return found


def group_is_gone(group: int) -> bool:
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_two_processes_give_the_same_results_as_one(folder: Path, tmp_path: Path) -> None:
    printed = run(folder / 'toy.py', '--jobs', 2, '--work-dir', tmp_path / 'work')
    assert '12 of 12 runs done, 0 failed' in printed
    assert results(tmp_path / 'work') == results(folder / 'work')


@pytest.mark.parametrize('jobs', [1, 2])
def test_killed_and_resumed(jobs: int, folder: Path, tmp_path: Path) -> None:
    """``kill -9`` of the main process only: its workers end by themselves, and no file is half-written."""
    work_dir = tmp_path / 'work'
    process = start(folder / 'toy.py', '--jobs', jobs, '--work-dir', work_dir)
    wait_for(work_dir, 3)
    process.kill()
    process.communicate()
    assert group_is_gone(process.pid), 'workers outlived the study'
    before = results(work_dir)
    assert 3 <= len(before) < 12
    times = {p: p.stat().st_mtime_ns for p in work_dir.glob('cells/*/*/result.json')}
    run(folder / 'toy.py', '--jobs', jobs, '--work-dir', work_dir, '--resume')
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert results(work_dir) == results(folder / 'work')


@pytest.mark.parametrize('jobs', [1, 2])
def test_interrupted(jobs: int, folder: Path, tmp_path: Path) -> None:
    """Ctrl-C in a terminal reaches every process."""
    work_dir = tmp_path / 'work'
    process = start(folder / 'toy.py', '--jobs', jobs, '--work-dir', work_dir)
    wait_for(work_dir, 2)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert 'to continue, run the same command with --resume' in printed and 'Traceback' not in printed
    assert group_is_gone(process.pid)


def test_dead_worker_fails_only_its_run(folder: Path, tmp_path: Path) -> None:
    study = """
work_dir = {work_dir!r}
config = 'base.py'
axes = dict(tuning=dict(linear={{}}, deadly={{'custom_hooks': [dict(type='Deadly')]}}))
seeds = (0, 1)
"""
    (tmp_path / 'deadly_hook.py').write_text(
        'import os, signal\nfrom mmengine.hooks import Hook\nfrom mmengine.registry import HOOKS\n\n\n'
        '@HOOKS.register_module()\nclass Deadly(Hook):\n'
        '    def before_train(self, runner):\n        os.kill(os.getpid(), signal.SIGKILL)\n'
    )
    path = write_study(tmp_path, study)
    base = tmp_path / 'base.py'
    base.write_text(base.read_text().replace("'mmpretrain.datasets'", "'mmpretrain.datasets', 'deadly_hook'"))
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    command = [sys.executable, str(TOOL), str(path), '--jobs', '2']
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1, done.stdout + done.stderr
    assert set(results(tmp_path / 'work')) == {'tuning=linear/seed=0', 'tuning=linear/seed=1'}
    assert done.stdout.count('its process ended with signal SIGKILL; out of memory?') >= 2
    assert len(list((tmp_path / 'work').rglob('error.txt'))) == 2


def test_merged_shards_equal_the_whole_study(folder: Path, tmp_path: Path) -> None:
    shards = [tmp_path / 'one', tmp_path / 'two']
    for i, shard in enumerate(shards, 1):
        run(folder / 'toy.py', '--shard', f'{i}/2', '--work-dir', shard)
    first, second = (results(shard) for shard in shards)
    assert not first.keys() & second.keys()
    run(folder / 'toy.py', '--merge', *shards, '--work-dir', tmp_path / 'all')
    assert results(tmp_path / 'all') == results(folder / 'work') == first | second


def test_second_study_in_the_same_work_dir_raises(folder: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / 'work'
    process = start(folder / 'toy.py', '--work-dir', work_dir)
    wait_for(work_dir, 1)
    process.send_signal(signal.SIGSTOP)  # so that it cannot finish before the second study starts
    printed = run(folder / 'toy.py', '--work-dir', work_dir, '--resume', code=1)
    process.kill()
    process.communicate()
    assert f'another run is writing to work dir {str(work_dir)!r}: process {process.pid}' in printed


def test_dead_idle_worker_is_replaced(folder: Path, tmp_path: Path) -> None:
    """The worker is killed between two jobs; the next job runs in a new process."""
    study = read_study(folder / 'toy.py')
    cells = [Cell(list_groups(study)[0], 0.1, seed) for seed in (0, 1)]
    jobs = [make_job(cell, ConfigBuilder(study), tmp_path) for cell in cells]
    with Workers(1, 1) as pool:
        for job in jobs:
            pool.submit(job)
            (outcome,) = pool.wait()
            assert outcome.error is None
            os.kill(pool._workers[0].submit(os.getpid).result(), signal.SIGKILL)
