"""The progress display of a study, the estimated time, and the GPU of each worker."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from protuning_lab.study.estimate import estimate_seconds_left, format_duration
from protuning_lab.study.grid import list_groups
from protuning_lab.study.job import Outcome
from protuning_lab.study.progress import Progress
from protuning_lab.study.schedule import Schedule
from protuning_lab.study.workers import _gpu_environment
from tests.test_lab.test_study.fake import fake_result, make_study


@pytest.fixture
def schedule(tmp_path: Path) -> Schedule:
    text = "config = 'base.py'\naxes = dict(tuning=dict(pro={}, full={}, bias={}))\nseeds = (0, 1, 2)\n"
    study = make_study(tmp_path, text)
    return Schedule(study, list_groups(study), {})


def finish(schedule: Schedule, progress: Progress) -> None:
    """Finish the three runs of ``pro``: two succeed, the third fails."""
    for seconds in (10.0, 20.0, None):
        cell = schedule.next_cell()
        assert cell is not None
        progress.run_started(cell.name)
        if seconds is None:
            schedule.mark_failed(cell, 'ValueError: [no] such layer')
            progress.run_ended(Outcome(cell.name, error='ValueError: [no] such layer'))
        else:
            result = fake_result(70.0, seconds=seconds)
            schedule.mark_succeeded(cell, result)
            progress.run_ended(Outcome(cell.name, result))


def test_estimate_seconds_left(schedule: Schedule) -> None:
    assert estimate_seconds_left(schedule, 1) is None
    finish(schedule, Progress(schedule, 1, Console(file=io.StringIO())))
    # six runs of two groups without results; each counts with the mean of the finished runs, 15 s
    assert estimate_seconds_left(schedule, 1) == 6 * 15
    assert estimate_seconds_left(schedule, 2) == 3 * 15
    assert [format_duration(s) for s in (None, 12.3, 300, 9000)] == ['unknown', '12 s', '5 min', '2 h 30 min']


def test_plain_lines_without_terminal(schedule: Schedule) -> None:
    file = io.StringIO()
    with Progress(schedule, 1, Console(file=file, width=200)) as progress:
        finish(schedule, progress)
    lines = file.getvalue().splitlines()
    assert '\x1b' not in file.getvalue()
    assert lines[1] == '[2/9] done tuning=pro/seed=1  20.0 s (7 left, 2 min)'
    assert lines[2].startswith('[3/9] failed tuning=pro/seed=2: ValueError: [no] such layer (6 left')
    assert lines[3].startswith('2 of 9 runs done, 1 failed')


def test_terminal_shows_progress(schedule: Schedule) -> None:
    file = io.StringIO()
    console = Console(file=file, width=200, force_terminal=True, color_system=None)
    with Progress(schedule, 2, console) as progress:
        finish(schedule, progress)
        progress.run_started('tuning=full/seed=0')
        console.print(progress._render())
    shown = file.getvalue()
    for words in ('2 done', '1 running', '1 failed', '5 left', '45 s to go', '… tuning=full/seed=0', '[no] such layer'):
        assert words in shown, words


def test_each_worker_gets_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, visible, expected in ((1, None, [None] * 3), (2, None, ['0', '1', '0']), (2, '5,7', ['5', '7', '5'])):
        monkeypatch.setattr(torch.cuda, 'device_count', lambda count=count: count)
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        if visible:
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
        assert [_gpu_environment(i).get('CUDA_VISIBLE_DEVICES') for i in range(3)] == expected
