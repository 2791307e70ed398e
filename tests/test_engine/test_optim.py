"""TrainableOptimWrapperConstructor: mmengine's own groups, of the trained parameters and no others."""

import warnings
from typing import Any

import pytest
import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.optim.optimizer import default_constructor
from torch import nn

from protuning_mm.engine import TrainableOptimWrapperConstructor
from tests.tiny import TinyClassifier, Weights, tuned_resnet

PARAMWISE: dict[str, dict[str, Any] | None] = {
    'none': None,
    'norm_decay_mult': dict(norm_decay_mult=0.0),
    'bias': dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
    'depth-wise': dict(dwconv_decay_mult=0.5, flat_decay_mult=0.25),
    'custom_keys': dict(
        custom_keys={
            'head': dict(lr_mult=10.0),
            'prompts.2': dict(lr_mult=0.1, decay_mult=0.0),
            'backbone': dict(lr_mult=0.5),
        }
    ),
}
Groups = dict[str, tuple[float, float]]


def built(constructor: type, model: nn.Module, paramwise: dict[str, Any] | None) -> Any:
    cfg = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01))
    return constructor(cfg, paramwise)(model).optimizer


def groups_by_name(optimizer: Any, model: nn.Module) -> Groups:
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group['lr'], group['weight_decay']) for group in optimizer.param_groups for p in group['params']
    }


@pytest.mark.parametrize('paramwise', list(PARAMWISE))
def test_holds_the_default_s_groups_of_what_is_trained(paramwise: str, weights: Weights) -> None:
    """Same learning rate and decay as mmengine's own gives each trained parameter; frozen ones are nowhere."""
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18), prompt=dict(norm_cfg=dict(type='BN'))))
    cfg = PARAMWISE[paramwise]
    theirs = groups_by_name(built(DefaultOptimWrapperConstructor, model, cfg), model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    ours = groups_by_name(built(TrainableOptimWrapperConstructor, model, cfg), model)
    assert ours == {name: theirs[name] for name in trained}
    if cfg:
        assert len(set(ours.values())) > 1
    else:
        assert len(theirs) > len(ours)  # the default holds the frozen ones


def test_warns_about_no_frozen_parameter(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine's own prints a line for every frozen parameter."""
    said: list[str] = []
    monkeypatch.setattr(default_constructor, 'print_log', lambda msg, *a, **k: said.append(msg))
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    cfg = dict(norm_decay_mult=0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        built(DefaultOptimWrapperConstructor, model, cfg)
        loud = len(said) + len(caught)
        built(TrainableOptimWrapperConstructor, model, cfg)
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert loud >= len(frozen) > 50
    quiet = [*said, *(str(w.message) for w in caught)][loud:]
    assert not [line for line in quiet if 'requires_grad' in line or 'stages' in line], quiet


def test_steps_what_is_trained(weights: Weights) -> None:
    """The optimizer's parameters are the model's own tensors, the model stays as it was."""
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18)))
    names = list(model.state_dict())
    optimizer = built(TrainableOptimWrapperConstructor, model, dict(norm_decay_mult=0.0))
    for group in optimizer.param_groups:
        for param in group['params']:
            param.grad = torch.ones_like(param)
    before = model.head.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(model.head.weight, before)
    assert list(model.state_dict()) == names


def test_plain_model_is_trained_wholly(weights: Weights) -> None:
    """For a fine-tuning twin it is mmengine's own constructor."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    for cfg in (None, dict(norm_decay_mult=0.0)):
        ours = groups_by_name(built(TrainableOptimWrapperConstructor, model, cfg), model)
        theirs = groups_by_name(built(DefaultOptimWrapperConstructor, model, cfg), model)
        assert ours == theirs and len(ours) == 6


def test_unwraps_ddp(weights: Weights) -> None:
    wrapped = nn.Module()
    wrapped.module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1).requires_grad_(False))
    optimizer = built(TrainableOptimWrapperConstructor, wrapped, None)
    assert set(groups_by_name(optimizer, wrapped.module)) == {'0.weight', '0.bias'}


@pytest.mark.parametrize('paramwise', [None, dict(norm_decay_mult=0.0)])
def test_nothing_to_train_is_an_error(paramwise: dict | None, weights: Weights) -> None:
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match='Linear has no trained parameter'):
        built(TrainableOptimWrapperConstructor, model, paramwise)
