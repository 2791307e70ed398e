"""A training run through ``tools/train.py``'s own code that can kill itself (SIGKILL) after an iteration.

Run as ``python -m tests.test_engine.resumed_run CONFIG WORK_DIR KILL_AT HOOK [train.py's flags]``: HOOK is the
checkpoint hook's class, KILL_AT the number of iterations after which the run dies, 0 for never, -1 for within
validation. Images are made small.
"""

import os
import signal
import sys
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from protuning_mm.cli.train import build_config, parse_args
from protuning_mm.engine.launch import prepare_cpu_ranks


@HOOKS.register_module()
class KillHook(Hook):
    """Dies after every other hook of an iteration, or (``in_validation``) in the midst of the first validation."""

    priority = 'LOWEST'

    def __init__(self, at: int, in_validation: bool = False) -> None:
        self.at = at
        self.in_validation = in_validation

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.in_validation and batch_idx and get_rank() == 0:  # the rank that saves has saved by now
            os.kill(os.getpid(), signal.SIGKILL)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 == self.at and not self.in_validation:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    config, work_dir, kill_at, hook, *flags = sys.argv[1:]
    torch.set_num_threads(1)
    cfg = build_config(parse_args([config, '--work-dir', work_dir, *flags]))
    cfg.default_hooks.checkpoint.type = f'protuning_mm.{hook}'
    for step in cfg.train_dataloader.dataset.get('pipeline', []):
        if step.get('type') in ('Resize', 'RandomResize'):
            step.update(scale=(128, 96))
    if int(kill_at):
        cfg.custom_hooks = [
            *cfg.get('custom_hooks', []),
            dict(type='KillHook', at=int(kill_at), in_validation=int(kill_at) < 0),
        ]
    prepare_cpu_ranks(cfg)
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    main()
