"""The comparison of a step on stored features with the step on the images."""

import torch

from protuning_mm.engine.feature_cache.trial import _largest_difference

STEP = {'loss ce': torch.tensor(2.0), 'head.weight': torch.tensor([4.0, -8.0]), 'head.bias': torch.tensor([1e-9])}


def test_equal_steps() -> None:
    assert _largest_difference(STEP, {name: value.clone() for name, value in STEP.items()}) == 0


def test_each_difference_has_its_scale() -> None:
    """A loss itself; a gradient the largest one, also where it is zero but for rounding."""
    assert _largest_difference(STEP, STEP | {'loss ce': torch.tensor(2.5)}) == 0.25
    assert _largest_difference(STEP, STEP | {'head.weight': torch.tensor([5.0, -8.0])}) == 0.125
    assert 0 < _largest_difference(STEP, STEP | {'head.bias': torch.tensor([-1e-9])}) < 1e-9


def test_what_is_missing_or_not_finite_differs() -> None:
    others = (
        {name: value for name, value in STEP.items() if name != 'head.bias'},
        STEP | {'head.weight': torch.zeros(3)},
        STEP | {'head.weight': torch.tensor([float('nan'), -8.0])},
        STEP | {'loss ce': torch.tensor(float('inf'))},
    )
    assert [_largest_difference(STEP, other) for other in others] == [float('inf')] * 4
