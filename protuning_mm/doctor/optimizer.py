"""Checks that the optimizer holds all trained parameters, and no others."""

from protuning_mm.doctor.findings import Finding, Findings, describe_error, join_first
from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.engine.optim_constructors import spared

_CONSTRUCTOR = 'protuning_mm.TrainableOptimWrapperConstructor'


def check_optimizer(setup: TrainingSetup) -> Findings:
    """Find frozen parameters in the optimizer, missing trained ones, and a zero learning rate used to freeze."""
    if not any(param.requires_grad for param in setup.model.parameters()):
        yield Finding(
            'error', 'model', 'nothing is trained: all parameters have requires_grad=False', 'train at least a head'
        )
        return
    try:
        groups = setup.param_groups()
    except Exception as error:
        yield Finding('error', 'optim_wrapper', f'cannot be built: {describe_error(error)}', 'correct its settings')
        return
    if not groups:
        yield Finding('info', 'optim_wrapper', 'not checked: the config has no optim_wrapper')
        return
    names = {param: name for name, param in setup.model.named_parameters()}
    rates = {param: group['lr'] for group in groups for param in group['params']}
    frozen = [names[param] for param in rates if not param.requires_grad and param in names]
    if frozen:
        yield Finding(
            'warning',
            'optim_wrapper.constructor',
            f'{len(frozen)} frozen parameters are in the optimizer: {join_first(frozen)}',
            f"optim_wrapper.constructor='{_CONSTRUCTOR}'",
        )
    outside = [name for param, name in names.items() if param.requires_grad and param not in rates]
    if outside:
        yield Finding(
            'warning',
            'optim_wrapper',
            f'{len(outside)} trained parameters are not in the optimizer and will never change: {join_first(outside)}',
            'freeze them, or use a constructor that includes them',
        )
    unchanged = [name for param, name in names.items() if param.requires_grad and rates.get(param) == 0]
    if unchanged:
        yield Finding(
            'warning',
            _zero_lr_key(setup),
            f'{len(unchanged)} parameters have lr 0, which does not freeze them: their gradients are still computed '
            f'and stored, and batch norms update their statistics: {join_first(unchanged)}',
            'requires_grad=False: by frozen_stages, or ProTunedResNet / TunedBackbone, which freeze the whole backbone',
        )
    yield from _check_custom_keys(setup, list(names.values()))


def _custom_keys(setup: TrainingSetup) -> dict[str, dict[str, float]]:
    return dict((setup.cfg.optim_wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {})


def _zero_lr_key(setup: TrainingSetup) -> str:
    zero = [key for key, values in _custom_keys(setup).items() if values.get('lr_mult') == 0]
    if zero:
        return f"optim_wrapper.paramwise_cfg.custom_keys['{zero[0]}'].lr_mult"
    return 'optim_wrapper.optimizer.lr'


def _check_custom_keys(setup: TrainingSetup, names: list[str]) -> Findings:
    """Report learning rates that apply to no parameter, or not to the parameters that a tuning added."""
    custom_keys, where = _custom_keys(setup), 'optim_wrapper.paramwise_cfg.custom_keys'
    for key, added in spared(setup.model, custom_keys).items():
        children = sorted({name.partition(f'{key}.')[2].split('.')[0] or name for name in added})
        yield Finding(
            'info',
            f"{where}['{key}'].lr_mult",
            f'is meant for pre-trained weights: the {len(added)} parameters that the tuning added '
            f'({join_first(added)}) get the full learning rate',
            f"nothing; to set another, add a key that names them, such as '{key}.{children[0]}'",
        )
    for key, values in custom_keys.items():
        # not for `decay_mult`: such keys are copied from config to config, whether or not a model has these parameters
        if 'lr_mult' in values and not any(key in name for name in names):
            found = 'no parameter has this in its name, so its lr_mult has no effect'
            advice = 'a part of a parameter name; print(model) shows the names'
            yield Finding('warning', f"{where}['{key}']", found, advice)
