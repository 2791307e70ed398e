"""tools/train.py and tools/test.py on classification: a long tail of CIFAR-10, and CIFAR-10-C."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from tests.classification_data import without_checksums, write_cifar, write_cifar_c
from tests.mini import REPO, write_backbone

TINY = """
_base_ = '{base}'
model = dict(
    backbone=dict(backbone=dict(
        depth=18, base_channels=8, stem_channels=8, init_cfg=dict(type='Pretrained', checkpoint='{weights}'))),
    head=dict(in_channels=64))
pack = dict(type='PackInputs', meta_keys=('sample_idx', 'corruption', 'severity', 'generated'))
load = dict(num_workers=0, persistent_workers=False, batch_size=16)
train_dataloader = dict(**load, dataset=dict({train}dataset=dict(pipeline=[pack])))
val_dataloader = dict(**load, dataset=dict(pipeline=[pack]))
test_dataloader = dict(**load, dataset=dict(pipeline=[pack]))
train_cfg = dict(max_epochs=2)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with CIFAR-10, with 10 training images per class, and a backbone."""
    without_checksums()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Runner, '_log_env', lambda self, cfg: None)  # takes seconds: runs compilers
    write_cifar(tmp_path / 'data/cifar10', train=10, test=2)
    write_backbone(tmp_path / 'resnet18.pth', 'mmpretrain', stem_channels=8)
    return tmp_path


def write_config(folder: Path, base: str, train: str = '') -> Path:
    path = folder / f'tiny_{base}.py'
    text = TINY.format(base=f'protuning_mm::cls/{base}.py', weights=folder / 'resnet18.pth', train=train)
    path.write_text(text if train else text.replace('dict(dataset=dict(pipeline=[pack]))', 'dict(pipeline=[pack])'))
    return path


def run_tool(name: str, *args: object) -> dict[str, float]:
    """Run a tool in this process, and return the last metrics that it wrote."""
    argv = sys.argv
    sys.argv = [name, *map(str, args)]
    try:
        runpy.run_path(str(REPO / f'tools/{name}.py'), run_name='__main__')
    finally:
        sys.argv = argv
    written = Path('run').glob('*/vis_data/scalars.json' if name == 'train' else '*/*.json')
    last = max(written, key=lambda path: path.stat().st_mtime_ns).read_text()
    return json.loads(last.splitlines()[-1] if name == 'train' else last)


def test_train_and_test_a_long_tail(folder: Path) -> None:
    """The imbalance ratio is one option; the class groups are counted from the run's training set."""
    config = write_config(folder, 'r50_protune_cifar10-lt-ir50', 'imbalance_ratio=5, ')
    groups = [f'{split}_evaluator.2.{key}' for split in ('val', 'test') for key in ('many=7', 'few=4')]
    options = ('--cfg-options', *groups)
    last = run_tool('train', config, '--work-dir', 'run', *options)
    saved = torch.load('run/epoch_2.pth', weights_only=False)
    frozen = torch.load('resnet18.pth', weights_only=True)
    for name, tensor in frozen.items():
        assert torch.equal(saved['state_dict'][f'backbone.{name}'], tensor), name
    assert any('prompts' in name for name in saved['state_dict'])

    cfg = Config.fromfile(config)
    counts = DATASETS.build(cfg.train_dataloader.dataset).num_per_class
    assert counts == [10, 8, 6, 5, 4, 4, 3, 2, 2, 2]
    assert saved['meta']['iter'] == 2 * -(-sum(counts) // 16)

    tested = run_tool('test', config, 'run/epoch_2.pth', '--work-dir', 'run', '--out', 'run/out.pkl', *options)
    expected = {'accuracy/top1', 'accuracy/class_mean', 'accuracy/many', 'accuracy/medium', 'accuracy/few'}
    assert expected <= set(tested)
    assert {key: last[key] for key in expected} == {key: tested[key] for key in expected}
    assert tested['accuracy/top1'] == tested['accuracy/class_mean']  # the test set is balanced
    size = dict(many=2, medium=4, few=4)
    mean = sum(size[group] * tested[f'accuracy/{group}'] for group in size) / 10
    assert mean == pytest.approx(tested['accuracy/class_mean'])


@pytest.mark.slow
def test_cifar_c(folder: Path) -> None:
    """Test on the published files if they exist, otherwise on generated copies; the metric says which."""
    config = write_config(folder, 'r50_protune_cifar10-c')
    quick = ('--work-dir', 'run', '--cfg-options', 'test_dataloader.dataset.corruptions=[fog,contrast]')
    run_tool('train', config, '--work-dir', 'run', '--cfg-options', 'train_cfg.max_epochs=1')
    made = run_tool('test', config, 'run/epoch_1.pth', *quick)
    assert made['corruption/generated'] == 1.0
    assert made['corruption/mean'] == (made['corruption/fog'] + made['corruption/contrast']) / 2
    write_cifar_c(folder / 'data/cifar10/CIFAR-10-C', images=3)
    published = run_tool('test', config, 'run/epoch_1.pth', *quick)
    assert published['corruption/generated'] == 0.0
    assert set(published) >= {'corruption/fog', 'corruption/contrast_error', 'corruption/mean_error'}
