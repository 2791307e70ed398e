"""Estimates of file sizes and of the memory of a training step."""

import inspect
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.doctor.trial_step import IMAGES, TrialStep
from protuning_mm.engine import count_parameters


@dataclass(frozen=True)
class Estimates:
    """Numbers of parameters and sizes in bytes; None if a size could not be estimated.

    Args:
        trained (int): Number of trained parameters.
        frozen (int): Number of frozen parameters.
        delta (int): Size of a file of the trained tensors, such as a delta: trained parameters, and buffers of modules
            in training mode.
        delta_with_optimizer (int, optional): Size of this file with the optimizer's state.
        checkpoint (int): Size of a whole checkpoint: all tensors of the model.
        checkpoint_with_optimizer (int, optional): Size of a whole checkpoint with the optimizer's state.
        memory (int, optional): Peak memory of a training step on one device, without the CUDA context.
        memory_per_image (int, optional): The part of it that grows with the batch size, per image.
        method (str): How the memory was estimated, or why it was not.
    """

    trained: int
    frozen: int
    delta: int
    delta_with_optimizer: int | None
    checkpoint: int
    checkpoint_with_optimizer: int | None
    memory: int | None
    memory_per_image: int | None
    method: str


def estimate_sizes(
    setup: TrainingSetup,
    steps: list[TrialStep],
    size: tuple[int, int] | None,
    why_no_steps: str = 'no trial step was run',
) -> Estimates:
    """Estimate the sizes of files and the memory of a training step.

    Args:
        setup (TrainingSetup): The config, with its model.
        steps (list[TrialStep]): Trial steps whose memory was measured.
        size (tuple[int, int], optional): Height and width of the images in training.
        why_no_steps (str): Why ``steps`` is empty.
    """
    table, model = count_parameters(setup.model), setup.model
    whole = sum(t.nbytes for t in model.state_dict().values())
    trained = sum(param.nbytes for param in model.parameters() if param.requires_grad)
    delta, state = trained + _changed_buffer_bytes(model), _optimizer_state_bytes(setup)
    if not steps:
        memory, per_image, method = None, None, why_no_steps
    elif size is None or setup.batch_size is None or state is None:
        memory, per_image, method = None, None, "the training's image size, batch size or optimizer is not known"
    else:
        activations, method = _estimate_activations(setup, steps, size, setup.batch_size)
        memory = round(whole + state + trained + activations)
        per_image = round(activations / setup.batch_size)
    return Estimates(
        trained=table.trained,
        frozen=table.frozen,
        delta=delta,
        delta_with_optimizer=None if state is None else delta + state,
        checkpoint=whole,
        checkpoint_with_optimizer=None if state is None else whole + state,
        memory=memory,
        memory_per_image=per_image,
        method=method,
    )


def _changed_buffer_bytes(model: nn.Module) -> int:
    """Return the bytes of the saved buffers that training changes: those of modules in training mode."""
    saved = {id(t) for t in model.state_dict(keep_vars=True).values()}
    training = [module for module in model.modules() if module.training]
    buffers = {buffer for module in training for buffer in module.buffers(recurse=False) if id(buffer) in saved}
    return sum(buffer.nbytes for buffer in buffers)


def _optimizer_state_bytes(setup: TrainingSetup) -> int | None:
    """Measure the bytes of the optimizer's state for the trained parameters, in a step of an optimizer of its class.

    Returns:
        int, optional: None if the config has no optimizer, or if the step fails.
    """
    try:
        groups, wrapper = setup.param_groups(), cast(Any, setup.optim_wrapper)
        optimizers = list(wrapper.values()) if hasattr(wrapper, 'optim_wrappers') else [wrapper]
        ratio, extra = _state_per_byte(optimizers[0].optimizer)
    except Exception:
        return None
    params = [param for group in groups for param in group['params'] if param.requires_grad]
    return round(sum(param.nbytes * ratio + extra for param in params))


def _state_per_byte(optimizer: torch.optim.Optimizer) -> tuple[float, int]:
    """Return the bytes of state per byte of a parameter, and the constant bytes per parameter, such as step counts."""
    accepted = inspect.signature(type(optimizer).__init__).parameters
    settings = {k: v for k, v in optimizer.defaults.items() if k in accepted}
    param = nn.Parameter(torch.zeros(64, 64))
    copy = type(optimizer)([param], **settings)
    param.grad = torch.ones_like(param)
    copy.step()
    state = [value for value in copy.state[param].values() if isinstance(value, Tensor)]
    of_shape = sum(value.nbytes for value in state if value.shape == param.shape)
    return of_shape / param.nbytes, sum(value.nbytes for value in state) - of_shape


def _estimate_activations(
    setup: TrainingSetup, steps: list[TrialStep], size: tuple[int, int], batch_size: int
) -> tuple[float, str]:
    """Scale the memory of trial steps to the images of training; also return a description of the method."""
    same_share = [step for step in steps if step.share == steps[0].share]
    areas = [step.size[0] * step.size[1] for step in same_share]
    # this memory grows with the number of images and their area; gradients do not, and are not part of the peaks
    peaks = [step.peak / IMAGES for step in steps]
    slope = (peaks[1] - peaks[0]) / (areas[1] - areas[0]) if len(same_share) > 1 else peaks[0] / areas[0]
    slope = max(slope, 0.0)
    constant, sampled = max(peaks[0] - slope * areas[0], 0.0), ''
    if len(same_share) < len(steps):  # the memory of sampled proposals does not depend on the image size
        proposals = max(peaks[0] - peaks[-1], 0.0) / (steps[0].share - steps[-1].share)
        constant += (1 - steps[0].share) * proposals
        sampled = ', and to the full number of sampled proposals'
    measured = ' and '.join(f'{h}x{w}' for h, w in (step.size for step in same_share))
    return batch_size * (constant + slope * size[0] * size[1]), (
        f'an estimate: steps with {IMAGES} images of {measured} were measured on {setup.device} and scaled to '
        f'{batch_size} of {size[0]}x{size[1]}{sampled}; plus weights, gradients and optimizer state'
    )
