"""tools/train.py and tools/test.py on the command line: train, resume and evaluate."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from protuning_mm.cli.convert_delta import merge_delta
from tests.mini import REPO, write_config


def run(*args: object, ok: bool = True, cwd: Path | None = None) -> str:
    """Run a tool in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, *map(str, args)], cwd=cwd, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


HOOKS = {'whole': 'protuning_mm.CheckpointHook', 'delta': 'protuning_mm.DeltaCheckpointHook'}
QUICK = {('htc', 'whole'), ('upernet', 'delta')}
CELLS = [
    pytest.param(model, form, marks=[] if (model, form) in QUICK else pytest.mark.slow)
    for model in ('htc', 'upernet', 'cascade', 'fcn')
    for form in HOOKS
]


@pytest.mark.parametrize(('model', 'form'), CELLS)
def test_train_resume_and_test(model: str, form: str, tmp_path: Path) -> None:
    """Train, resume, evaluate and draw, with whole checkpoints and with deltas."""
    config = write_config(model, tmp_path, extra=f"\ndefault_hooks['checkpoint']['type'] = {HOOKS[form]!r}\n")
    detector = model in ('htc', 'cascade')
    work_dir = tmp_path / 'run dir'  # a space in the path
    printed = run(REPO / 'tools/train.py', config, '--work-dir', work_dir)
    assert 'backbone.prompts' in printed and '% of full fine-tuning' in printed
    assert 'has no effect: the tuning decides what is frozen' in printed
    first = work_dir / ('epoch_1.pth' if detector else 'iter_2.pth')
    before = torch.load(first, weights_only=False)

    key = 'max_epochs' if detector else 'max_iters'
    more = f'train_cfg.{key}={2 if detector else 4}'
    printed = run(REPO / 'tools/train.py', config, '--work-dir', work_dir, '--resume', '--cfg-options', more)
    assert 'resumed epoch' in printed
    last = work_dir / ('epoch_2.pth' if detector else 'iter_4.pth')
    after = torch.load(last, weights_only=False)
    assert after['meta']['iter'] == 2 * before['meta']['iter']
    trained = {
        name for name, tensor in after['state_dict'].items() if not torch.equal(tensor, before['state_dict'][name])
    }
    assert any('prompts' in name for name in trained)
    if form == 'delta':
        merge_delta(Config.fromfile(config), str(last), tmp_path / 'merged.pth')
        assert last.stat().st_size < (tmp_path / 'merged.pth').stat().st_size
        after['state_dict'] = torch.load(tmp_path / 'merged.pth', weights_only=False)['state_dict']
    frozen = torch.load(next(tmp_path.glob('resnet18*.pth')), weights_only=True)
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    parameters = [name for name in after['state_dict'] if not name.endswith(buffers)]
    in_optimizer = sum(len(group['params']) for group in after['optimizer']['param_groups'])
    assert in_optimizer == sum(name.removeprefix('backbone.') not in frozen for name in parameters)  # none is frozen
    for name, tensor in frozen.items():  # bit-identical to the file after two runs
        assert torch.equal(after['state_dict'][f'backbone.{name}'], tensor), name

    out = tmp_path / ('out.pkl' if detector else 'out')
    shown = tmp_path / 'shown'
    printed = run(REPO / 'tools/test.py', config, last, '--work-dir', work_dir, '--out', out, '--show-dir', shown)
    assert ('coco/segm_mAP' if detector else 'mIoU') in printed
    if detector:
        assert len(pickle.loads(out.read_bytes())) == 4
    else:
        assert len(list(out.glob('*.png'))) == 4
    assert any(path.suffix in ('.jpg', '.png') for path in shown.rglob('*')), 'nothing was drawn'
