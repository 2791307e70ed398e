"""Is the learning rate meant for this batch size?"""

from typing import Any

from protuning_mm.doctor.case import Case
from protuning_mm.doctor.findings import Finding, Findings


def check_learning_rate(case: Case) -> Findings:
    """Compare ``auto_scale_lr.base_batch_size`` with what a step will see, and tell what the linear rule gives."""
    wrapper = case.cfg.get('optim_wrapper') or {}
    lr = (wrapper.get('optimizer') or {}).get('lr')
    if lr is None or case.batch_size is None:
        yield Finding('info', 'optim_wrapper.optimizer.lr', 'no learning rate or batch size is named: not examined')
        return
    scaling: Any = case.cfg.get('auto_scale_lr') or {}
    base, enabled = scaling.get('base_batch_size'), bool(scaling.get('enable'))
    batch = case.batch_size * case.gpus
    said = f'{case.batch_size} images x {case.gpus} GPU{"s" if case.gpus > 1 else ""} = {batch} a step'
    if base is None:
        yield Finding(
            'error' if enabled else 'info',
            'auto_scale_lr',
            f'lr={lr:g}, {said}; the config does not say which batch size its lr is meant for',
            'auto_scale_lr=dict(base_batch_size=<that>)',
        )
    elif enabled:
        yield Finding(
            'info', 'auto_scale_lr', f'lr={lr:g} is meant for {base} images, {said}: it becomes {lr * batch / base:g}'
        )
    elif batch != base:
        yield Finding(
            'warning',
            'optim_wrapper.optimizer.lr',
            f'lr={lr:g} is meant for {base} images a step, but {said}',
            f'auto_scale_lr.enable=True (or train.py --auto-scale-lr), or by the linear rule lr={lr * batch / base:g}; '
            'doctor --gpus N for N GPUs',
        )
    accumulated = wrapper.get('accumulative_counts', 1)
    if accumulated > 1:
        yield Finding(
            'warning' if enabled else 'info',
            'optim_wrapper.accumulative_counts',
            f'gradients of {accumulated} steps are added up: {batch * accumulated} images an update; auto_scale_lr '
            'does not count that',
            f'compare the lr with {batch * accumulated} images' if enabled else '',
        )
