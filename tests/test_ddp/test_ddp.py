"""Two CPU ranks (gloo), without find_unused_parameters."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.mini import REPO, write_config
from tests.test_ddp import worker

ENV = os.environ | {
    'PYTHON': sys.executable,
    'OMP_NUM_THREADS': '1',
    'PYTHONPATH': f'{REPO}{os.pathsep}{os.environ.get("PYTHONPATH", "")}',
}


def run(command: list[str], **env: str) -> str:
    done = subprocess.run(command, env=ENV | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope='module', params=['classifier', 'fcn'])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    out = tmp_path_factory.mktemp(request.param)
    script = str(Path(worker.__file__))
    launch = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2']
    run([sys.executable, *launch, script, request.param, str(out)])
    return request.param, *(torch.load(out / f'rank{i}.pth') for i in range(2))


def test_ranks_end_bit_identical(ranks: tuple) -> None:
    _, a, b = ranks
    assert all(torch.equal(a['weights'][name], b['weights'][name]) for name in a['weights'])


def test_reduced_gradient_is_the_mean_of_the_ranks_own(ranks: tuple) -> None:
    _, a, b = ranks
    assert a['own'].keys() == a['reduced'].keys()
    for name in a['own']:
        mean = (a['own'][name] + b['own'][name]) / 2
        torch.testing.assert_close(a['reduced'][name], mean, rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(a['own'][name], b['own'][name]) for name in a['own'])


def test_only_trained_parameters_travel(ranks: tuple) -> None:
    kind, a, _ = ranks
    trained = sum(p.numel() for p in worker.build(kind).parameters() if p.requires_grad)
    assert a['travelled'] == worker.STEPS * trained


def test_equals_one_process_at_the_same_global_batch(ranks: tuple) -> None:
    kind, a, _ = ranks
    model = worker.build(kind)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    worker.train(model, kind, slice(None))
    after = model.state_dict()
    assert any(not torch.equal(after[name], before[name]) for name in after)
    for name in after:
        torch.testing.assert_close(a['weights'][name], after[name], rtol=1e-5, atol=1e-5)


SAVE_EACH_RANK = """
import os, torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module(force=True)
class SaveEachRank(Hook):
    def after_train(self, runner):
        torch.save(runner.model.module.state_dict(), os.path.join(runner.work_dir, f'rank{runner.rank}.pth'))
"""


@pytest.mark.parametrize('model', ['upernet', pytest.param('htc', marks=pytest.mark.slow)])
def test_launcher_pytorch_without_cuda(model: str, tmp_path: Path) -> None:
    """tools/dist_train.sh as a person runs it; a SyncBN of the host is replaced and said so.

    Two steps at least: a parameter that took no part in the first stops DDP in the second.
    """
    if torch.cuda.is_available():
        pytest.skip('this is about machines without CUDA')
    (tmp_path / 'save_each_rank.py').write_text(SAVE_EACH_RANK)
    extra = "\ncustom_imports = dict(imports=['save_each_rank'])\ncustom_hooks = [dict(type='SaveEachRank')]\n"
    if model == 'upernet':
        extra += "model['decode_head']['norm_cfg'] = dict(type='SyncBN')\n"
    config = write_config(model, tmp_path, extra)
    unit = 'epochs' if model == 'htc' else 'iters'
    command = ['bash', str(REPO / 'tools/dist_train.sh'), str(config), '2']
    printed = run(
        [
            *command,
            '--work-dir',
            str(tmp_path / 'run'),
            '--cfg-options',
            'val_cfg=None',
            'val_dataloader=None',
            'val_evaluator=None',
            f'train_cfg.max_{unit}=3',
        ],
        PORT=str(29500 + os.getpid() % 1000),
        PYTHONPATH=f'{tmp_path}{os.pathsep}{ENV["PYTHONPATH"]}',
    )
    assert '2 CPU ranks (gloo)' in printed
    if model == 'upernet':
        assert re.search(r'SyncBN cannot run on a CPU: 1 norm_cfg became BN', printed)
    a, b = (torch.load(tmp_path / f'run/rank{i}.pth') for i in range(2))
    running = ('running_mean', 'running_var')  # a head's plain BN keeps each rank's own statistics
    for name in a:
        if 'backbone' in name or not name.endswith(running):
            assert torch.equal(a[name], b[name]), name
