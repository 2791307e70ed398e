"""Does the optimizer hold what is trained, and nothing else?"""

from protuning_mm.doctor.case import Case
from protuning_mm.doctor.findings import Finding, Findings, first_few, first_line
from protuning_mm.engine.optim_constructors import spared

_OWN = 'protuning_mm.TrainableOptimWrapperConstructor'


def check_optimizer(case: Case) -> Findings:
    """Frozen parameters in the optimizer, trained ones outside of it, and a learning rate of zero as if it froze."""
    assert case.model is not None
    if not any(param.requires_grad for param in case.model.parameters()):
        yield Finding(
            'error', 'model', 'nothing is trained: all parameters have requires_grad=False', 'a head to train'
        )
        return
    try:
        groups = case.param_groups()
    except Exception as error:
        yield Finding('error', 'optim_wrapper', f'cannot be built: {first_line(error)}', 'mend its settings')
        return
    if not groups:
        yield Finding('info', 'optim_wrapper', 'the config has none: the optimizer was not examined')
        return
    names = case.names()
    held = {param: group for group in groups for param in group['params']}
    frozen = [names[param] for param in held if not param.requires_grad and param in names]
    if frozen:
        yield Finding(
            'warning',
            'optim_wrapper.constructor',
            f'{len(frozen)} frozen parameters are in the optimizer: {first_few(frozen)}',
            f"optim_wrapper.constructor='{_OWN}'",
        )
    outside = [name for param, name in names.items() if param.requires_grad and param not in held]
    if outside:
        yield Finding(
            'warning',
            'optim_wrapper',
            f'{len(outside)} trained parameters are not in the optimizer and will never change: {first_few(outside)}',
            'freeze them, or use a constructor that takes them',
        )
    still = [name for param, name in names.items() if param.requires_grad and param in held and not held[param]['lr']]
    if still:
        yield Finding(
            'warning',
            _key_of_zero(case),
            f'{len(still)} parameters have lr 0, which does not freeze: their gradients are still computed and kept, '
            f'and batch norms in training mode move: {first_few(still)}',
            'requires_grad=False: frozen_stages of the host, or ProTunedResNet / TunedBackbone, which freeze wholly',
        )
    yield from _spared(case)
    yield from _unmatched(case, list(names.values()))


def _custom_keys(case: Case) -> dict[str, dict[str, float]]:
    return dict((case.cfg.optim_wrapper.get('paramwise_cfg') or {}).get('custom_keys') or {})


def _key_of_zero(case: Case) -> str:
    zero = [key for key, values in _custom_keys(case).items() if values.get('lr_mult') == 0]
    if zero:
        return f"optim_wrapper.paramwise_cfg.custom_keys['{zero[0]}'].lr_mult"
    return 'optim_wrapper.optimizer.lr'


def _spared(case: Case) -> Findings:
    assert case.model is not None
    for key, added in spared(case.model, _custom_keys(case)).items():
        children = sorted({name.partition(f'{key}.')[2].split('.')[0] or name for name in added})
        yield Finding(
            'info',
            f"optim_wrapper.paramwise_cfg.custom_keys['{key}'].lr_mult",
            f'is meant for pre-trained weights: the {len(added)} parameters that the tuning added '
            f'({first_few(added)}) get the full learning rate',
            f"nothing; a key of their own, such as '{key}.{children[0]}', sets another",
        )


def _unmatched(case: Case, names: list[str]) -> Findings:
    for key, values in _custom_keys(case).items():
        # `decay_mult` lists are copied from model to model; a learning rate is set for a part that one knows
        if 'lr_mult' in values and not any(key in name for name in names):
            yield Finding(
                'warning',
                f"optim_wrapper.paramwise_cfg.custom_keys['{key}']",
                'no parameter has this in its name, so its lr_mult does nothing',
                'a part of a name that print(model) shows',
            )
