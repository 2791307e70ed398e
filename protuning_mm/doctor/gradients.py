"""Checks that every trained parameter gets a gradient, and that ``find_unused_parameters`` fits that."""

from protuning_mm.doctor.findings import Finding, Findings, join_first
from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.doctor.trial_step import TrialStep


def check_gradients(setup: TrainingSetup, steps: list[TrialStep]) -> Findings:
    """Compare the gradients of trial steps with the setting that DistributedDataParallel gets.

    Args:
        setup (TrainingSetup): The config.
        steps (list[TrialStep]): The trial steps; if empty, nothing is checked.
    """
    if not steps:
        return
    key, enabled = _find_unused_setting(setup)
    # a parameter that got a gradient in any of the steps is used
    unused = [name for name in steps[0].without_gradient if all(name in step.without_gradient for step in steps)]
    if enabled and not unused:
        yield Finding(
            'warning',
            key,
            'True, but every trained parameter got a gradient in a trial step: each training step would search the '
            'graph for nothing',
            f'{key}=False',
        )
    elif unused and not enabled:
        effect = 'Training with one process still works'
        if setup.distributed:
            effect = 'Distributed training would stop at its second step'
        yield Finding(
            'error' if setup.distributed else 'warning',
            key,
            f'{len(unused)} trained parameters got no gradient in a trial step: {join_first(unused)}. {effect}',
            f'freeze these parameters or remove their modules; {key}=True only if each step uses different ones',
        )
    elif unused:
        yield Finding('info', key, f'True, and {len(unused)} parameters got no gradient: {join_first(unused)}')
    single = sorted({name for step in steps for name in step.single_value_norms})
    if single and setup.batch_size == 1 and setup.gpus == 1:
        yield Finding(
            'error',
            'train_dataloader.batch_size',
            f'with one image, {join_first(single)} get one value per channel, for which batch norm raises an error in '
            'training',
            'a batch_size of 2 or more',
        )


def _find_unused_setting(setup: TrainingSetup) -> tuple[str, bool]:
    wrapper, key = setup.cfg.get('model_wrapper_cfg') or {}, 'find_unused_parameters'
    if key in wrapper:
        return f'model_wrapper_cfg.{key}', bool(wrapper[key])
    return key, bool(setup.cfg.get(key, False))
