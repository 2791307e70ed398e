"""Checks that the learning rate fits the batch size."""

from typing import Any

from protuning_mm.doctor.findings import Finding, Findings
from protuning_mm.doctor.training_setup import TrainingSetup


def check_learning_rate(setup: TrainingSetup) -> Findings:
    """Compare ``auto_scale_lr.base_batch_size`` with the batch size of a step, and compute the linearly scaled rate."""
    wrapper = setup.cfg.get('optim_wrapper') or {}
    lr = (wrapper.get('optimizer') or {}).get('lr')
    lr_key = 'optim_wrapper.optimizer.lr'
    if lr is None or setup.batch_size is None:
        yield Finding('info', lr_key, 'not checked: the config has no learning rate or batch size')
        return
    scaling: Any = setup.cfg.get('auto_scale_lr') or {}
    base, enabled = scaling.get('base_batch_size'), bool(scaling.get('enable'))
    batch = setup.batch_size * setup.gpus
    product = f'{setup.batch_size} images x {setup.gpus} GPU{"s" if setup.gpus > 1 else ""} = {batch} per step'
    if base is None:
        found = f'lr={lr:g}, {product}; the config does not say for which batch size its lr is meant'
        advice = 'auto_scale_lr=dict(base_batch_size=<that>)'
        yield Finding('error' if enabled else 'info', 'auto_scale_lr', found, advice)
    elif enabled:
        found = f'lr={lr:g} is meant for {base} images per step; {product}, so lr becomes {lr * batch / base:g}'
        yield Finding('info', 'auto_scale_lr', found)
    elif batch != base:
        yield Finding(
            'warning',
            lr_key,
            f'lr={lr:g} is meant for {base} images per step; this run has {product}',
            f'auto_scale_lr.enable=True (or train.py --auto-scale-lr), or by the linear rule lr={lr * batch / base:g}; '
            'doctor --gpus N for N GPUs',
        )
    accumulated = wrapper.get('accumulative_counts', 1)
    if accumulated > 1:
        yield Finding(
            'warning' if enabled else 'info',
            'optim_wrapper.accumulative_counts',
            f'gradients of {accumulated} steps are accumulated: {batch * accumulated} images per update; auto_scale_lr '
            'does not take this into account',
            f'compare the lr with {batch * accumulated} images' if enabled else '',
        )
