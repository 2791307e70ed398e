"""A tiny classifier of mmpretrain on twelve image files, trained by a real Runner."""

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from protuning_mm.engine.shortcuts import lay_shortcuts
from tests.tiny import QuickRunner

PLAIN = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')]
FLIPPED = [*PLAIN[:-1], dict(type='RandomFlip', prob=0.5), PLAIN[-1]]
NUMBERS = count()  # of the runs: mmengine names loggers after them
LATE = dict(type='pro', prompt_stages=(3,))
TUNINGS: dict[str, Any] = dict(
    linear=dict(type='linear'), ladder=dict(type='ladder'), late=LATE, partial=dict(type='partial', k=1)
)


def write_images(folder: Path, number: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for i in range(number):
        path = folder / f'{i % 3}' / f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 48 + i % 2, 3), dtype=np.uint8)).save(path)
    return folder


def make_config(files: Path, work_dir: Path, tuning: Any = LATE, cache: Any = True, **changes: Any) -> Config:
    """Two epochs of three steps. ``changes`` replace keys of the config; ``pipeline``, ``images``, ``loader`` parts."""
    data = dict(type='CustomDataset', data_root=str(changes.pop('images', files / 'images')))
    data['pipeline'] = changes.pop('pipeline', PLAIN)
    loader = dict(batch_size=4, num_workers=0, drop_last=True, sampler=dict(type='DefaultSampler', shuffle=True))
    content: dict[str, Any] = dict(
        default_scope='mmpretrain',
        model=dict(
            type='ImageClassifier',
            data_preprocessor=dict(num_classes=3, mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True),
            backbone=dict(
                type='protuning_mm.TunedBackbone',
                backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, out_indices=(3,)),
                tuning=tuning,
                init_cfg=dict(type='Pretrained', checkpoint=str(changes.pop('base', files / 'base.pth'))),
            ),
            neck=dict(type='GlobalAveragePooling'),
            # dropout draws from the random stream of training
            head=dict(type='StackedLinearClsHead', num_classes=3, in_channels=64, mid_channels=[8], dropout_rate=0.3),
        ),
        train_dataloader=loader | changes.pop('loader', {}) | dict(dataset=data),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(
            constructor='protuning_mm.TrainableOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=0.05)
        ),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            param_scheduler=dict(type='ParamSchedulerHook'),
            sampler_seed=dict(type='DistSamplerSeedHook'),
            checkpoint=dict(type='protuning_mm.CheckpointHook', interval=1),
            tuning=dict(type='protuning_mm.TuningHook'),
            audit=dict(type='protuning_mm.FrozenAuditHook'),
            resume=dict(type='protuning_mm.ExactResumeHook'),
        ),
        randomness=dict(seed=3),
        work_dir=str(work_dir),
        experiment_name=f'small{next(NUMBERS)}',
        cache_features=cache,
    )
    return lay_shortcuts(Config(content | changes))


def train(cfg: Config, *hooks: Hook) -> Any:
    runner = QuickRunner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    torch.manual_seed(17)  # what happened before the run does not matter
    runner.train()
    return runner


def result(runner: Any) -> dict[str, Any]:
    """What training has made: the last checkpoint."""
    path = Path((Path(runner.work_dir) / 'last_checkpoint').read_text().strip())
    found = torch.load(path, weights_only=False)
    return {key: found[key] for key in ('state_dict', 'optimizer', 'resume_state')}


def log(runner: Any) -> str:
    return ''.join(path.read_text() for path in Path(runner.work_dir).rglob('*.log'))


class CountConvolutions(Hook):
    """Counts the convolutions of each step's forward, at torch's dispatcher."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        self.counts.append(0)
        self.mode = _Counter(self.counts)
        self.mode.__enter__()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.mode.__exit__(None, None, None)


class _Counter(TorchDispatchMode):
    def __init__(self, counts: list[int]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[-1] += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))
