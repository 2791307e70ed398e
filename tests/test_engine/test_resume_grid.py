"""Resume is exact: a run that was killed and resumed ends, bit for bit, where the run in one go ends.

The four models through our configs, with their augmentation, on small data, and a classifier of mmpretrain; whole
checkpoints and deltas; one process and two.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint
from torch import Tensor

from tests.mini import REPO, write_ade, write_backbone, write_classifier, write_coco, write_config

HOOKS = ('CheckpointHook', 'DeltaCheckpointHook')
MODELS = ('cascade', 'htc', 'fcn', 'upernet', 'classifier')
# killed one iteration behind a checkpoint within an epoch, so that what was trained since is lost
SAVED, KILLED, LAST = 3, 4, 6
NO_VALIDATION = """val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
"""
COMMON = f"""
randomness = dict(seed=7)
default_hooks['checkpoint'].update(by_epoch=False, interval={SAVED})
{NO_VALIDATION}"""
DETECTOR = "\ntrain_cfg = dict(max_epochs=2)\ntrain_dataloader['batch_size'] = 2\n"
SEGMENTOR = f"""
train_cfg = dict(max_iters={LAST}, val_interval=100)
train_pipeline.insert(3, dict(type='RandomFlip', prob=0.5))
train_pipeline.insert(4, dict(type='PhotoMetricDistortion'))
"""
CLASSIFIER = """
model.update(train_cfg=dict(augments=dict(type='Mixup', alpha=0.8)))
model['head']['num_classes'] = data_preprocessor['num_classes'] = 2
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', scale=32), dict(type='RandomFlip', prob=0.5),
    dict(type='ColorJitter', brightness=0.4), dict(type='RandomErasing', erase_prob=0.5), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root={data!r}, pipeline=pipeline))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(
    constructor='protuning_mm.TrainableOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=0.01))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=6, by_epoch=False)]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1), param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'), checkpoint=dict(type='protuning_mm.CheckpointHook'),
    tuning=dict(type='protuning_mm.TuningHook'), resume=dict(type='protuning_mm.ExactResumeHook'))
"""


def write(model: str, folder: Path, ranks: int) -> Path:
    """Three iterations an epoch on every rank, no workers."""
    images = 6 * ranks
    if model == 'classifier':
        base = write_backbone(folder / 'base.pth', 'mmpretrain', stem_channels=8)
        data = write_ade(folder / 'classes', images)
        for i, path in enumerate(sorted((data / 'images/training').iterdir())):
            (data / f'images/{i % 2}').mkdir(exist_ok=True)
            path.rename(data / f'images/{i % 2}' / path.name)
        for empty in ('training', 'validation'):
            for path in (data / 'images' / empty).iterdir():
                path.unlink()
            (data / 'images' / empty).rmdir()
        return write_classifier(folder / 'classifier.py', base, CLASSIFIER.format(data=str(data / 'images')) + COMMON)
    detector = model in ('cascade', 'htc')
    data = write_coco(folder / 'coco', images) if detector else write_ade(folder / 'ade', images)
    return write_config(model, folder, COMMON + (DETECTOR if detector else SEGMENTOR), data)


def train(config: Path, work_dir: Path, hook: str, ranks: int, kill_at: int = 0, *flags: str) -> str:
    run = ['-m', 'tests.test_engine.resumed_run', str(config), str(work_dir), str(kill_at), hook, *flags]
    if ranks > 1:
        launch = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={ranks}']
        run = [*launch, *run, '--launcher', 'pytorch']
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(REPO))
    done = subprocess.run([sys.executable, *run], cwd=REPO, env=env, capture_output=True, text=True, check=False)
    if kill_at:
        assert done.returncode == (-signal.SIGKILL if ranks == 1 else 1), done.stderr[-3000:]
    else:
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def differing(one: Any, other: Any, name: str = '') -> list[str]:
    """Names of the tensors and numbers that are not the same bit for bit."""
    if isinstance(one, Tensor):
        return [] if torch.equal(one, other) else [name]
    if isinstance(one, dict):
        assert list(one) == list(other), name
        return [n for key in one for n in differing(one[key], other[key], f'{name}.{key}')]
    if isinstance(one, list | tuple):
        assert len(one) == len(other), name
        return [n for i, pair in enumerate(zip(one, other)) for n in differing(*pair, f'{name}.{i}')]
    return [] if one == other else [name]


def resumed(config: Path, folder: Path, hook: str, ranks: int, *flags: str, kill_at: int = KILLED) -> list[str]:
    """What differs at the end between a run in one go and one that was killed and resumed."""
    train(config, folder / 'whole', hook, ranks, 0, *flags)
    train(config, folder / 'killed', hook, ranks, kill_at, *flags)
    assert sorted(p.name for p in (folder / 'killed').glob('*.pth')) == [f'iter_{SAVED}.pth']
    printed = train(config, folder / 'killed', hook, ranks, 0, '--resume', *flags)
    assert f'iter: {SAVED}' in printed
    one, other = (torch.load(folder / name / f'iter_{LAST}.pth', weights_only=False) for name in ('whole', 'killed'))
    parts = ('state_dict', 'optimizer', 'param_schedulers', 'resume_state')
    return [name for part in parts for name in differing(one[part], other[part], part)]


def cells() -> list[Any]:
    quick = {('classifier', HOOKS[1], 2)}
    return [
        pytest.param(*cell, marks=[] if cell in quick else pytest.mark.slow)
        for cell in ((model, hook, ranks) for model in MODELS for hook in HOOKS for ranks in (1, 2))
    ]


@pytest.mark.parametrize(('model', 'hook', 'ranks'), cells())
def test_bit_for_bit(model: str, hook: str, ranks: int, tmp_path: Path) -> None:
    config = write(model, tmp_path, ranks)
    assert resumed(config, tmp_path, hook, ranks) == []


@pytest.mark.slow
@pytest.mark.parametrize('ranks', [1, 2])
def test_killed_within_validation(ranks: int, tmp_path: Path) -> None:
    """Behind the checkpoint's save; the run in one go validates to the end."""
    config = write('fcn', tmp_path, ranks)
    text = config.read_text().replace(NO_VALIDATION, '').replace('val_interval=100', f'val_interval={SAVED}')
    config.write_text(text)
    assert resumed(config, tmp_path, HOOKS[0], ranks, kill_at=-1) == []
    assert 'mIoU' in ''.join(path.read_text() for path in (tmp_path / 'whole').rglob('*.log'))


@pytest.mark.slow
@pytest.mark.parametrize('model', ['cascade', 'fcn', 'classifier'])
def test_differs_without_the_hook(model: str, tmp_path: Path) -> None:
    """So the tests above can fail: mmengine alone ends elsewhere."""
    config = write(model, tmp_path, 1)
    hooks = Config.fromfile(config).default_hooks
    assert hooks.resume.type == 'protuning_mm.ExactResumeHook'
    config.write_text(config.read_text() + "\ndefault_hooks['resume'] = dict(type='IterTimerHook')\n")
    assert any(name.startswith('state_dict') for name in resumed_without_state(config, tmp_path))


def resumed_without_state(config: Path, folder: Path) -> list[str]:
    """mmengine begins the epoch anew: the runs are as long, and the last checkpoints are compared."""
    for name, kill_at in (('whole', 0), ('killed', KILLED)):
        train(config, folder / name, HOOKS[0], 1, kill_at)
    train(config, folder / 'killed', HOOKS[0], 1, 0, '--resume')
    last = [find_latest_checkpoint(str(folder / name)) for name in ('whole', 'killed')]
    one, other = (torch.load(path, weights_only=False)['state_dict'] for path in last)
    return differing(one, other, 'state_dict')


@pytest.mark.slow
@pytest.mark.parametrize('hook', HOOKS)
@pytest.mark.parametrize('config', ['det/htc_r50_protune_demo.py', 'seg/upernet_r50_protune_demo.py'])
def test_the_demo_s_own_configs(config: str, hook: str, tmp_path: Path) -> None:
    """On the demo's real pixels, twelve images of them, validation in between."""
    made = [
        sys.executable,
        REPO / 'tools/make_demo_data.py',
        '--out',
        tmp_path / 'data',
        '--images',
        '12',
        '--val-images',
        '4',
    ]
    subprocess.run([*map(str, made)], check=True, capture_output=True, cwd=REPO)
    root = f'data_root={tmp_path}/data/{"coco/" if config.startswith("det") else "ade"}'
    detector = config.startswith('det')
    options = [
        *(root, 'randomness.seed=5'),
        *(
            f'{part}_dataloader.{key}'
            for part in ('train', 'val')
            for key in ('num_workers=0', 'persistent_workers=False')
        ),
        *('default_hooks.checkpoint.by_epoch=False', f'default_hooks.checkpoint.interval={SAVED}'),
        *('default_hooks.checkpoint.max_keep_ckpts=-1',),
        *(('train_cfg.max_epochs=1',) if detector else (f'train_cfg.max_iters={LAST}', 'train_cfg.val_interval=3')),
    ]
    assert resumed(REPO / 'configs' / config, tmp_path, hook, 1, '--cfg-options', *options) == []
