"""Ctrl-C at random moments of every command: no traceback, nothing half-written, a status that says so."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import pytest
import torch

from protuning_mm.weights.checksum import verify_checksum
from tests.mini import REPO
from tests.test_multitask.tasks import Workshop

STOPPED = (130, -signal.SIGINT)  # in the command; while the libraries are imported
TOOLS = {
    'train': 'train.py',
    'test': 'test.py',
    'predict': 'predict.py',
    'doctor': 'doctor.py',
    'export': 'model_converters/export.py',
    'extract_delta': 'model_converters/extract_delta.py',
    'merge_delta': 'model_converters/merge_delta.py',
    'multitask': 'multitask.py',
    'visualize_prompts': 'visualize_prompts.py',
    'count_params': 'analysis_tools/count_params.py',
}


@pytest.fixture(scope='module')
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp('shop'))


def call(tool: str, shop: Workshop, out: Path) -> list[str]:
    seg, images = str(shop.configs['seg']), shop.images
    forever = ['--cfg-options', 'train_cfg.max_iters=1000', 'default_hooks.checkpoint.interval=3']
    return {
        'train': lambda: [seg, '--work-dir', str(out), *forever],
        'test': lambda: [seg, shop.task('seg')[1], '--work-dir', str(out)],
        'predict': lambda: [seg, shop.task('seg')[1], *images, '--out', str(out)],
        'doctor': lambda: [seg, '--data'],
        'export': lambda: [seg, shop.task('seg')[1], str(out / 'x.ts'), '--size', '64', '64'],
        'extract_delta': lambda: [seg, shop.task('seg')[1], str(out / 'd.pth')],
        'merge_delta': lambda: [seg, shop.task('seg', form='delta')[1], str(out / 'w.pth')],
        'multitask': lambda: [
            '--task', f'a={seg},{shop.task("seg")[1]}', '--image', *images, '--out', str(out)
        ],
        'visualize_prompts': lambda: [seg, shop.task('seg')[1], *images, '--out', str(out)],
        'count_params': lambda: [seg],
    }[tool]()  # fmt: skip


def interrupted(tool: str, args: list[str], wait: Callable[[], None]) -> tuple[int, str]:
    """Press Ctrl-C after ``wait``, as a terminal does: every process of the group gets it."""
    process = subprocess.Popen(
        [sys.executable, str(REPO / 'tools' / TOOLS[tool]), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPO,
        start_new_session=True,
        env={**os.environ, 'PYTHONPATH': str(REPO)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # the shell around the tests may mute it
    )
    wait()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=120)
    return process.returncode, printed


def check_whole(out: Path) -> None:
    for path in out.rglob('*'):
        assert not path.name.endswith('.part'), path
        if path.suffix == '.pth':
            assert verify_checksum(path), path
        elif path.suffix == '.ts':
            torch.jit.load(str(path))
        elif path.suffix in ('.png', '.jpg'):
            assert cv2.imread(str(path)) is not None, path


@pytest.mark.slow
@pytest.mark.parametrize('tool', list(TOOLS))
def test_at_random_moments(tool: str, shop: Workshop, tmp_path: Path) -> None:
    rng = random.Random(tool)
    for i in range(4):
        out, seconds = tmp_path / str(i), rng.uniform(0.3, 12)
        code, printed = interrupted(tool, call(tool, shop, out), partial(time.sleep, seconds))
        assert 'Traceback' not in printed, printed[-3000:]
        assert code in (0, 1, *STOPPED) if tool == 'doctor' else code in (0, *STOPPED), printed[-3000:]
        check_whole(out)


def test_while_it_trains(shop: Workshop, tmp_path: Path) -> None:
    def saved() -> None:
        end = time.monotonic() + 120
        while not (tmp_path / 'iter_3.pth').exists() and time.monotonic() < end:
            time.sleep(0.05)

    code, printed = interrupted('train', call('train', shop, tmp_path), saved)
    assert code == 130 and 'Traceback' not in printed, printed[-3000:]
    assert printed.rstrip().endswith('all files written so far are complete')
    assert verify_checksum(tmp_path / 'iter_3.pth')
    check_whole(tmp_path)
