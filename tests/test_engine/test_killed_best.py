"""The best checkpoint of a run that was killed and resumed is that of the run in one go, and there is no other."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mini import REPO
from tests.tiny import Weights


def killed_and_resumed(out: Path, weights: Weights, *settings: str) -> list[str]:
    """A line for each moment that a run was killed at."""
    done = subprocess.run(
        [sys.executable, '-m', 'tests.test_engine.killed_and_resumed', str(out), weights('mmdet', depth=18), *settings],
        cwd=REPO, env=dict(os.environ, OMP_NUM_THREADS='1'), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    files, *moments = [line for line in done.stdout.splitlines() if '|' in line or line.startswith('[')]
    assert 'best_' in files and 'epoch_5' not in files.split(',')[0] and 'iter_10' not in files.split(',')[0]
    return moments


def check(moments: list[str], at_least: int) -> None:
    assert len(moments) >= at_least, moments
    assert not [line for line in moments if not line.endswith('| same')]


def test_killed_in_the_validation_that_finds_the_best(tmp_path: Path, weights: Weights) -> None:
    """The checkpoint of that moment is on disk, and knows nothing of the validation."""
    moments = killed_and_resumed(tmp_path, weights, '64', '1', 'CheckpointHook', 'epoch', '64')
    assert 'process' in moments[0]
    check(moments, 1)


@pytest.mark.slow
@pytest.mark.parametrize(('hook', 'loop'), [('CheckpointHook', 'epoch'), ('DeltaCheckpointHook', 'iter')])
def test_killed_at_every_seventh_moment(hook: str, loop: str, tmp_path: Path, weights: Weights) -> None:
    """A best that is forgotten, one that the checkpoint does not know, and an old one that is left."""
    moments = killed_and_resumed(tmp_path, weights, '2', '7', hook, loop)
    check(moments, 20)
    for kind in ('half of', 'fsync', 'replace', 'process', 'step'):
        assert any(kind in line for line in moments), kind
