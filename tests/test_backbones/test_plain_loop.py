"""A loop of one's own, without a runner: training on a random frozen backbone is told once."""

import warnings

import pytest
import torch
from torch import nn

from tests.plain import fill, image, plain_resnet
from tests.tiny import Weights, tuned_resnet


def steps(backbone: nn.Module, number: int = 3) -> list[str]:
    """Train a few steps; return what was warned of frozen tensors."""
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for _ in range(number):
            backbone(image())[-1].mean().backward()
            optimizer.step()
    return [str(each.message) for each in caught if 'frozen' in str(each.message)]


def test_random_frozen_tensors_are_told_once() -> None:
    backbone = tuned_resnet()
    (said,) = steps(backbone)
    assert 'were not loaded from a file' in said and 'init_cfg' in said and 'allow_random_backbone=True' in said
    assert not steps(backbone)


def test_evaluation_is_no_training() -> None:
    """And does not use up the warning."""
    backbone = tuned_resnet()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        backbone.eval()(image())
        with torch.no_grad():
            backbone.train()(image())
    assert len(steps(backbone)) == 1


@pytest.mark.parametrize('how', ['file', 'state dict', 'allowed', 'nothing is frozen'])
def test_what_is_meant_is_not_told(how: str, weights: Weights) -> None:
    if how == 'file':
        backbone = tuned_resnet(weights('mmdet', depth=18))
    elif how == 'state dict':
        backbone = tuned_resnet()
        backbone.load_state_dict(fill(plain_resnet('mmdet', depth=18)).state_dict(), strict=False)
    elif how == 'allowed':
        backbone = tuned_resnet(allow_random_backbone=True)
    else:
        backbone = tuned_resnet(tuning='full')
    assert not steps(backbone)
