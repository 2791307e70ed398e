"""A trial before training: a step on stored features must be the step on the images."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from protuning_mm.backbones import tuned_backbones
from protuning_mm.backbones.frozen_features import FrozenFeatures, FrozenPart
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.feature_cache.batches import Batch, TrainingBatches
from protuning_mm.engine.random_state import keep_random_state

# relative; more is another result. On a GPU, two equal steps may differ
_ROUNDING = dict(cpu=1e-3, cuda=5e-2)
_NOISE = (0.1, 0.01, 0.0)
_LOSS = 'loss '  # no parameter's name has a space


def compare_steps(
    model: Any, batch: Batch, features: FrozenFeatures, context: Callable[[Any], AbstractContextManager[Any]]
) -> float:
    """Compute losses and gradients of a batch on its images and on its features, with equal random numbers.

    It runs on copies of the model whose trained parameters are disturbed, because the first prompts are zero and would
    hide wrong features.

    Args:
        model (nn.Module): The model.
        batch (Batch): A batch.
        features (FrozenFeatures): The features of its images.
        context (Callable): Returns the context in which a training step of a model runs.

    Returns:
        float: Largest relative difference; 0 if all losses and gradients are equal bit for bit.

    Raises:
        ConfigError: the model needs the images, or its losses or gradients differ by more than rounding.
    """
    for noise in _NOISE:
        expected = _step(model, batch, batch.inputs, noise, context)
        if all(torch.isfinite(value).all() for value in expected.values()):
            break
    else:
        raise ConfigError('cache_features: the losses or gradients of the first batch are not finite')
    names = ' and '.join(each.name for backbone in tuned_backbones(model).values() for each in backbone.tunings)
    try:
        found = _step(model, batch, features, noise, context)
    except Exception as error:  # a tuning or a model may do anything with what it takes for images
        raise ConfigError(
            f'cache_features: the model needs more than the stored features, such as the images themselves ({names}; '
            f'{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ""}). Take a tuning such as '
            "'linear', 'ladder' or 'pro' with late prompt_stages, or train without cache_features"
        ) from error
    largest = _largest_difference(expected, found)
    if largest > _ROUNDING.get(batch.inputs.device.type, _ROUNDING['cuda']):
        raise ConfigError(
            f'cache_features: on the stored features, losses or gradients differ from those on the images by '
            f'{largest:.1g} ({names}), because something depends on more than them: train without cache_features'
        )
    return largest


def _step(
    model: Any, batch: Batch, inputs: Any, noise: float, context: Callable[[Any], AbstractContextManager[Any]]
) -> dict[str, Tensor]:
    """Return losses and gradients of a copy of the model."""
    trial = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    for param in _trained(trial):
        spread = noise * (param.detach().abs().mean().item() + 0.1)
        param.data.add_((spread * torch.randn(param.shape, generator=generator)).to(param))
        param.grad = None
    with keep_random_state():
        with context(trial):
            losses = trial._run_forward(dict(inputs=inputs, data_samples=copy.deepcopy(batch.samples)), mode='loss')
        total, named = trial.parse_losses(losses)
        total.backward()
    found = {_LOSS + name: torch.as_tensor(value).detach().float() for name, value in named.items()}
    found |= {name: p.grad for name, p in trial.named_parameters() if p.requires_grad and p.grad is not None}
    return found


def _trained(model: Any) -> Iterator[Tensor]:
    return (param for param in model.parameters() if param.requires_grad)


def _largest_difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Return the largest difference of two steps: of a loss to itself, of a gradient to the largest of all gradients.

    A gradient that is zero but for rounding, as that of a bias before a norm, has no scale of its own.
    """
    steepest = max((grad.abs().max() for name, grad in expected.items() if not name.startswith(_LOSS)), default=None)
    largest = 0.0
    for name, one in expected.items():
        other = found.get(name)
        if other is None or other.shape != one.shape:
            return float('inf')
        if not torch.equal(one, other):
            scale = one.abs().max() if name.startswith(_LOSS) or steepest is None else steepest
            difference = ((one - other).abs().max() / scale).item()
            largest = max(largest, difference if isfinite(difference) else float('inf'))
    return largest


def describe_last_batch(batches: TrainingBatches, part: FrozenPart, first: Batch) -> str:
    """Say whether the backbone rounds differently in the smaller last batch of an epoch.

    Args:
        batches (TrainingBatches): The training set.
        part (FrozenPart): The frozen part of its backbone.
        first (Batch): The first batch.

    Returns:
        str: A sentence, which continues a line of the log; empty if nothing differs.
    """
    size = batches.last_size
    if size == batches.size:
        return ''
    whole, fewer = (batches.compute(part, first.inputs[:number]) for number in (batches.size, size))
    difference = max(((one[:size] - other).abs().max() / one.abs().max()).item() for one, other in zip(whole, fewer))
    if not difference:
        return ''
    return (
        f'. The last batch of an epoch has {size} images, and the backbone rounds features differently there (by '
        f'{difference:.0e} of the largest): train_dataloader.drop_last=True gives the same run with and without '
        'stored features'
    )
