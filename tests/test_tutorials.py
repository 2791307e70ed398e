"""The tutorials run as they are written, with fewer and smaller images; their commands and files fit the code."""

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch

from tests.mini import REPO

FOLDER = REPO / 'docs/tutorials'
TUTORIALS = sorted(path.stem for path in FOLDER.glob('*.md'))
# a fenced block with its language, and the name of the file that it is written to
BLOCK = re.compile(r'(?:<!-- file: ([\w.]+) -->\n)?```(\w+)\n(.*?)```', re.DOTALL)
# what makes a tutorial small. Each text must occur in it
SMALLER = {'--images 200 --val-images 40': '--images 8 --val-images 4 --size 96 128'}
MORE = {
    # eight images need more passes to be detected at all: without a box there is no best checkpoint
    'first_detector': {'--image-side 256': '--image-side 128', 'data_repeats=1': 'data_repeats=8'},
    'segmentation': {
        '--image-side 256': '--image-side 128',
        'train_cfg.max_iters=400 train_cfg.val_interval=200': 'train_cfg.max_iters=4 train_cfg.val_interval=2',
    },
    'compare_tunings': {
        'max_epochs=3': 'max_epochs=1',
        'seeds = (0, 1, 2)': 'seeds = (0,)',
        'values=(1e-3, 1e-2)': 'values=(1e-2,)',
    },
    'dinov3_detector': {'pretrained=True': 'pretrained=False', '--image-side 256': '--image-side 128'},
}
# the tutorials whose files another one uses
BEFORE = {'serve_many_tasks': ('first_detector', 'segmentation')}


def blocks_of(name: str) -> Iterator[tuple[str, str, str]]:
    """Give the file name, language and text of each block, made small."""
    text = (FOLDER / f'{name}.md').read_text()
    for large, small in {**SMALLER, **MORE.get(name, {})}.items():
        assert large in text or name in BEFORE, large
        text = text.replace(large, small)
    yield from BLOCK.findall(text)


def run_tutorial(name: str, folder: Path, port: int) -> None:
    """Run a tutorial's commands in a folder, in one shell, and look for what it says that they print."""
    for tool in ('tools', 'demo', 'configs'):
        if not (folder / tool).exists():
            (folder / tool).symlink_to(REPO / tool)
    commands = []
    expected = []
    for file, language, block in blocks_of(name):
        if file:
            (folder / file).write_text(block)
        elif language == 'bash':
            commands.append(block.replace('8000', str(port)))
        elif language == 'text':
            expected += block.splitlines()
    env = {
        **os.environ,
        'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        'PYTHONPATH': str(REPO),
        'TORCH_HOME': str(folder / 'torch'),
        'OMP_NUM_THREADS': '1',
        'CUDA_VISIBLE_DEVICES': '',
    }
    script = 'set -e -o pipefail\n' + '\n'.join(commands)
    done = subprocess.run(
        ['bash', '-c', script], cwd=folder, env=env, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, f'{done.stdout[-4000:]}\n{done.stderr[-4000:]}'
    for line in expected:
        assert line in done.stdout, line


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize('name', TUTORIALS)
def test_runs(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / 'torch/hub/checkpoints/resnet18-f37072fd.pth'  # in place of a download
    weights.parent.mkdir(parents=True)
    torch.save(timm.create_model('resnet18').state_dict(), weights)
    port = free_port()
    for each in (*BEFORE.get(name, ()), name):
        if (tmp_path / 'photos').is_dir():
            shutil.rmtree(tmp_path / 'photos')
        if each == 'serve_many_tasks':
            image = next((tmp_path / 'photos').rglob('*.jpg')) if (tmp_path / 'photos').is_dir() else None
            shutil.copy(image or next((REPO / 'docs/figures').glob('*.jpg')), tmp_path / 'photo.jpg')
        run_tutorial(each, tmp_path, port)


def test_every_tutorial_is_on_the_site_and_in_the_readme() -> None:
    site, readme = (REPO / 'docs/index.md').read_text(), (REPO / 'README.md').read_text()
    for name in TUTORIALS:
        assert f'tutorials/{name}\n' in site and f'docs/tutorials/{name}.md' in readme


@pytest.mark.parametrize('name', TUTORIALS)
def test_commands_exist(name: str) -> None:
    """The quick part of it: every command, tool, config and flag is there, and Python files compile."""
    for file, language, block in blocks_of(name):
        if file:
            compile(block, file, 'exec')
        if language not in ('bash', 'console'):
            continue
        joined = block.replace('\\\n', ' ')
        for config in re.findall(r'configs/[\w/.-]+\.py', joined):
            assert (REPO / config).is_file() or config.startswith('tasks/'), config
        for line in joined.splitlines():
            words = line.removeprefix('$ ').split()
            if words[:1] == ['python'] and words[1].startswith('tools/'):
                assert (REPO / words[1]).is_file(), line
