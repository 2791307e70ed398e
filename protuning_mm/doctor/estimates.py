"""How large the files will be, and how much memory a training step will take."""

import inspect
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from protuning_mm.doctor.case import Case
from protuning_mm.doctor.trial import Trial
from protuning_mm.engine import count_parameters

_WHERE_SIZES_ARE = ('crop_size', 'scale', 'scales', 'size')


@dataclass(frozen=True)
class Estimates:
    """Sizes in bytes; None where something could not be determined.

    Args:
        trained (int): Parameters that are trained.
        frozen (int): Parameters that are not.
        delta (int): A file with only what training changes: trained parameters, buffers of modules in training mode.
        delta_with_optimizer (int, optional): The same with the optimizer's state.
        checkpoint (int): The whole model's tensors.
        checkpoint_with_optimizer (int, optional): The same with the optimizer's state.
        memory (int, optional): A training step's peak on one device, without CUDA's own few hundred MB.
        method (str): How the memory was estimated, or why not.
    """

    trained: int
    frozen: int
    delta: int
    delta_with_optimizer: int | None
    checkpoint: int
    checkpoint_with_optimizer: int | None
    memory: int | None
    method: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(case: Case, trials: list[Trial], size: tuple[int, int] | None, why_no_trial: str = '') -> Estimates:
    """Estimate sizes of files and memory.

    Args:
        case (Case): With its model.
        trials (list[Trial]): The steps that were measured.
        size (tuple[int, int], optional): Height and width of the training's images.
        why_no_trial (str): Why there are none.
    """
    assert case.model is not None
    table, model = count_parameters(case.model), case.model
    whole = sum(_bytes(t) for t in model.state_dict().values())
    delta, trained = _changing(model)
    state = optimizer_state(case)
    memory, method = _memory(case, trials, size, whole, trained, state, why_no_trial)
    return Estimates(
        trained=table.trained,
        frozen=table.frozen,
        delta=delta,
        delta_with_optimizer=None if state is None else delta + state,
        checkpoint=whole,
        checkpoint_with_optimizer=None if state is None else whole + state,
        memory=memory,
        method=method,
    )


def _changing(model: nn.Module) -> tuple[int, int]:
    """Bytes that training changes in a model in training mode, and of its trained parameters alone."""
    kept = set(model.state_dict())
    trained = {p: _bytes(p) for p in model.parameters() if p.requires_grad}
    buffers = {
        buffer: _bytes(buffer)
        for name, module in model.named_modules()
        if module.training
        for key, buffer in module.named_buffers(recurse=False)
        if (f'{name}.{key}' if name else key) in kept
    }
    return sum(trained.values()) + sum(buffers.values()), sum(trained.values())


def optimizer_state(case: Case) -> int | None:
    """Bytes that the optimizer will keep for the parameters that are trained, told from one real step of its class.

    Returns:
        int, optional: None where there is no optimizer, or it cannot be tried.
    """
    try:
        groups, wrapper = case.param_groups(), cast(Any, case.optim_wrapper)
        optimizers = list(wrapper.values()) if hasattr(wrapper, 'optim_wrappers') else [wrapper]
        ratio, extra = _state_per_byte(optimizers[0].optimizer)
    except Exception:
        return None
    params = [param for group in groups for param in group['params'] if param.requires_grad]
    return round(sum(_bytes(param) * ratio + extra for param in params))


def _state_per_byte(optimizer: torch.optim.Optimizer) -> tuple[float, int]:
    takes = inspect.signature(type(optimizer).__init__).parameters
    settings = {k: v for k, v in optimizer.defaults.items() if k in takes}
    param = nn.Parameter(torch.zeros(64, 64))
    tried = type(optimizer)([param], **settings)
    param.grad = torch.ones_like(param)
    tried.step()
    held = [value for value in tried.state[param].values() if isinstance(value, Tensor)]
    alike = sum(_bytes(value) for value in held if value.shape == param.shape)
    return alike / _bytes(param), sum(_bytes(value) for value in held) - alike


def _memory(
    case: Case,
    trials: list[Trial],
    size: tuple[int, int] | None,
    whole: int,
    trained: int,
    state: int | None,
    why_no_trial: str,
) -> tuple[int | None, str]:
    if not trials:
        return None, why_no_trial or 'no trial step was run'
    if size is None or case.batch_size is None or state is None:
        return None, "the training's image size, batch size or optimizer is not known"
    alike = [trial for trial in trials if trial.share == trials[0].share]
    areas = [trial.size[0] * trial.size[1] for trial in alike]
    # a step's memory grows with images and their area; the gradients, measured apart, do not
    steps = [trial.peak / trial.images for trial in trials]
    slope = (steps[1] - steps[0]) / (areas[1] - areas[0]) if len(alike) > 1 else steps[0] / areas[0]
    slope = max(slope, 0.0)
    constant = max(steps[0] - slope * areas[0], 0.0)
    if len(alike) < len(trials):  # what samplers take is as much at every size
        proposals = max(steps[0] - steps[-1], 0.0) / (trials[0].share - trials[-1].share)
        constant += (1 - trials[0].share) * proposals
    area = size[0] * size[1]
    total = whole + state + trained + case.batch_size * (constant + slope * area)
    measured = ' and '.join(f'{h}x{w}' for h, w in (trial.size for trial in alike))
    sampled = ', and proposals to all that the samplers take' if len(alike) < len(trials) else ''
    return round(total), (
        f'an estimate: steps of {trials[0].images} images of {measured} measured on {case.device}, scaled by area and '
        f'number to {case.batch_size} of {size[0]}x{size[1]}{sampled}; plus weights, gradients and optimizer state'
    )


def training_size(cfg: Any) -> tuple[int, int] | None:
    """The largest height and width that a batch of a config has, from its preprocessor or its pipeline."""
    preprocessor = cfg.model.get('data_preprocessor') or {}
    size = preprocessor.get('size')
    if size is not None:
        return int(size[0]), int(size[1])
    dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    while isinstance(dataset.get('dataset'), dict) and not dataset.get('pipeline'):
        dataset = dataset['dataset']
    found = None
    for transform in dataset.get('pipeline') or ():
        for key in _WHERE_SIZES_ARE:
            value = transform.get(key)
            if value is None or not any(word in str(transform.get('type')) for word in ('Resize', 'Crop', 'Pad')):
                continue
            found = _as_size(value, str(transform['type']), key) or found
    divisor = preprocessor.get('pad_size_divisor', 1)
    return (-found[0] // divisor * -divisor, -found[1] // divisor * -divisor) if found else None


def _as_size(value: Any, kind: str, key: str) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if value and isinstance(value[0], list | tuple):
        value = max(value, key=lambda pair: pair[0] * pair[1])
    if len(value) != 2 or not all(isinstance(side, int) for side in value):
        return None
    a, b = value
    # the hosts write `scale` as (width, height), and crops as (height, width)
    return (b, a) if 'Resize' in kind and key.startswith('scale') and 'Crop' not in kind else (a, b)


def _bytes(t: Tensor) -> int:
    return t.numel() * t.element_size()
