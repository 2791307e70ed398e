#!/usr/bin/env python
"""Train the networks that the studies keep frozen: studies/sources.py [--out DIR --data DIR --seed N].

Each backbone is trained on both worlds of studies/pixels.py. One file per backbone contains both networks under the
plain backbone's parameter names with the world as prefix: ``digits.conv1.weight``, ``textures.conv1.weight``.
"""

import argparse
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from protuning_mm.weights.write import write_checkpoint
from studies.data import make_data
from studies.pictures import SOURCES

CONFIG = Path(__file__).parent / 'configs/source.py'
BACKBONES: dict[str, dict[str, Any]] = Config.fromfile(Path(__file__).parent / 'grids/axes.py').to_dict()['backbones']
# a transformer with random weights needs many small steps to learn this
SCHEDULES: dict[str, dict[str, Any]] = {
    'resnet': {},
    'vit': {
        'train_dataloader.batch_size': 32,
        'optim_wrapper.optimizer.lr': 2e-3,
        'train_cfg.max_iters': 2000,
        'train_cfg.val_interval': 2000,
        'param_scheduler.0.end': 200,
        'param_scheduler.1.begin': 200,
        'param_scheduler.1.end': 2000,
    },
}
OUT = 'work_dirs/studies/sources'


def train_source(backbone: str, world: str, data: str, seed: int = 0) -> tuple[dict[str, Tensor], float]:
    """Train one network on one world.

    Args:
        backbone (str): A key of ``BACKBONES``.
        world (str): ``digits`` or ``textures``.
        data (str): Folder that studies/data.py wrote.
        seed (int): Seed. Defaults to 0.

    Returns:
        tuple: The plain backbone's tensors, and the accuracy on new renderings of the source task. Most of their
        handwriting and photographs were in the training data, so the accuracy only shows that training worked.
    """
    torch.set_num_threads(1)  # the same sums in the same order on every machine
    cfg = Config.fromfile(CONFIG)
    classes = len(SOURCES[world])
    root = f'{data}/{world}'
    cfg.merge_from_dict(
        {
            **BACKBONES[backbone],
            **SCHEDULES[backbone],
            'model.backbone.init_cfg': None,
            'model.head.num_classes': classes,
            'model.data_preprocessor.num_classes': classes,
            'train_dataloader.dataset.data_root': root,
            'val_dataloader.dataset.data_root': root,
            'randomness.seed': seed,
        }
    )
    with tempfile.TemporaryDirectory() as work_dir:
        cfg.work_dir = work_dir
        # mmengine keeps one visualizer per name, and its default name only changes once a second
        cfg.experiment_name = f'{backbone}_{world}_{Path(work_dir).name}'
        runner = Runner.from_cfg(cfg)
        runner.train()
        accuracy = runner.message_hub.get_scalar('val/accuracy/top1').current()
    return dict(runner.model.backbone.plain.state_dict()), float(accuracy)


def train_sources(
    out: str | Path = OUT, data: str = 'data/studies', seed: int = 0, only: Sequence[str] = tuple(BACKBONES)
) -> dict[str, dict[str, Any]]:
    """Train every backbone on both worlds. Existing files are kept.

    Returns:
        dict: Backbone -> world -> accuracy and seconds of training.
    """
    make_data(data)
    results = {}
    for backbone in only:
        file = Path(out) / f'{backbone}.pth'
        if file.is_file():
            results[backbone] = torch.load(file, weights_only=True)['meta']
            continue
        meta: dict[str, Any] = {'seed': seed}
        state: OrderedDict[str, Tensor] = OrderedDict()
        for world in SOURCES:
            start = time.perf_counter()
            tensors, accuracy = train_source(backbone, world, data, seed)
            state.update({f'{world}.{key}': value for key, value in tensors.items()})
            meta[world] = {'accuracy': accuracy, 'seconds': round(time.perf_counter() - start, 1)}
            print(f'{backbone}, {world}: {accuracy:.1f} % in {meta[world]["seconds"]} s', flush=True)
        write_checkpoint({'meta': meta, 'state_dict': state}, file)
        results[backbone] = meta
    return results


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Train the networks that the studies keep frozen')
    parser.add_argument('--out', default=OUT, help='output folder')
    parser.add_argument('--data', default='data/studies', help='folder of the data, which are made if missing')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', nargs='+', choices=BACKBONES, default=list(BACKBONES), help='backbones to train')
    args = parser.parse_args(argv)
    train_sources(args.out, args.data, args.seed, args.only)


if __name__ == '__main__':
    main()
