"""``tools/train.py``: train a model, with the flags of the hosts' ``train.py``."""

import argparse
from collections.abc import Sequence

import torch
from mmengine.config import Config

from protuning_mm.cli.command import command
from protuning_mm.cli.run_config import add_common_arguments, load_config
from protuning_mm.data import check_data_files
from protuning_mm.engine.build_runner import build_runner
from protuning_mm.engine.launch import prepare_cpu_ranks
from protuning_mm.engine.work_dir import lock_work_dir
from protuning_mm.patches import prepare_process


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Train a detector, segmentor or classifier')
    add_common_arguments(parser)
    parser.add_argument('--amp', action='store_true', help='train with automatic mixed precision; needs a GPU')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate to the run's batch size, by auto_scale_lr.base_batch_size in the config",
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint; without a value, from the latest one in the work dir',
    )
    return parser.parse_args(argv)


def build_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the flags of ``train.py`` to it.

    Raises:
        SystemExit: a flag does not fit the config or the machine.
    """
    cfg = load_config(args)
    if args.amp:
        if not torch.cuda.is_available():
            raise SystemExit('error: --amp needs a GPU, and torch finds none; remove the flag')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise SystemExit(
                'error: --auto-scale-lr: the config has no auto_scale_lr.base_batch_size; add '
                'auto_scale_lr=dict(base_batch_size=<the batch size for which its learning rate is meant>)'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    return cfg


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cfg = build_config(args)
    check_data_files(cfg, ('train_dataloader', 'val_dataloader'))
    prepare_process(cfg.get('default_scope', ''))
    with lock_work_dir(cfg.work_dir):
        prepare_cpu_ranks(cfg)
        runner = build_runner(cfg)
        runner.train()


if __name__ == '__main__':
    main()
