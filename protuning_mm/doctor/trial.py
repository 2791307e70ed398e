"""One training step on made-up images: who gets a gradient, and what it costs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn
from torch.profiler import ProfilerActivity, profile

from protuning_mm.doctor.case import Case
from protuning_mm.doctor.findings import first_line
from protuning_mm.doctor.noise import Batch, noise_batch
from protuning_mm.doctor.proposals import learnt_proposals, samplers_of
from protuning_mm.doctor.samples import training_batch
from protuning_mm.engine.measure import peak_of_events

SMALL = ((128, 128), (192, 192))
LARGEST_FALLBACK = 640 * 640
IMAGES = 2  # batch norms need more than one
SHARES = (1 / 4, 1 / 8)  # of the proposals that samplers take: all of them would take minutes


@dataclass(frozen=True)
class Trial:
    """What one step showed.

    Args:
        size (tuple[int, int]): Height and width of the images.
        images (int): How many there were.
        peak (int): Bytes that the step held at its peak beyond the model, without the parameters' gradients.
        without_gradient (tuple[str]): Parameters that are trained and got no gradient.
        single (tuple[str]): Training batch norms that saw one value a channel and image.
        share (float): Part of the proposals that its samplers take in training. Defaults to all.
    """

    size: tuple[int, int]
    images: int
    peak: int
    without_gradient: tuple[str, ...]
    single: tuple[str, ...]
    share: float = 1.0


def run_trials(case: Case, wanted: tuple[int, int] | None) -> list[Trial]:
    """Run a step on noise of two small sizes, or, where the model takes none but its own, of that one.

    Samplers of proposals take a part of their number; a third step with fewer tells what a proposal costs. Where noise
    does not fit, a step on images of the training set is run, if they are here.

    Batch norms of the model move, and all but its backbone gets its initial values: whoever needs its weights looks at
    them before.

    Args:
        case (Case): Its model is used, on its device.
        wanted (tuple[int, int], optional): Height and width that the training will have.

    Raises:
        RuntimeError: says what the model raised on noise, and on images of the training set.
    """
    assert case.model is not None
    give_initial_values(case.model)
    # in one process mmengine does the same, and a CPU takes no other
    case.model = revert_sync_batchnorm(case.model).to(case.device).train()
    try:
        return _on_noise(case, wanted)
    except Exception as error:
        try:
            batch = training_batch(case, IMAGES)
            if batch is not None:
                return [_step(case, batch, SHARES[0] if samplers_of(case.model) else 1.0)]
        except Exception as second:
            raise RuntimeError(f'on noise: {first_line(error)}; on the training set: {first_line(second)}') from error
        raise RuntimeError(f'on noise: {first_line(error)}; the training set is not here') from error


def _on_noise(case: Case, wanted: tuple[int, int] | None) -> list[Trial]:
    model: Any = case.model

    def step(size: tuple[int, int], share: float = 1.0) -> Trial:
        return _step(case, noise_batch(model, IMAGES, size, case.device), share)

    try:
        if not samplers_of(model):
            return [step(size) for size in SMALL]
        return [*(step(size, SHARES[0]) for size in SMALL), step(SMALL[0], SHARES[1])]
    except Exception:
        if wanted is None or wanted[0] * wanted[1] > LARGEST_FALLBACK:
            raise
        return [step(wanted)]


def give_initial_values(model: nn.Module) -> None:
    """Initialise the parts of a model that hold no backbone, as a run does first; nothing is loaded.

    Built alone, some have values that no run begins with: Sparse R-CNN's learnt boxes end before they begin.
    """
    part: Any
    for name, part in model.named_children():
        held = [module for module in part.modules() if _is_loaded(getattr(module, 'init_cfg', None))]
        if name != 'backbone' and not held and hasattr(part, 'init_weights'):
            part.init_weights()


def _is_loaded(init_cfg: Any) -> bool:
    each = init_cfg if isinstance(init_cfg, list | tuple) else [init_cfg]
    return any(isinstance(one, dict) and one.get('type') == 'Pretrained' for one in each)


def _step(case: Case, batch: Batch, share: float) -> Trial:
    model: Any = case.model
    inputs, samples = batch
    single: list[str] = []
    reached: set[str] = set()
    with _watching(model, single, reached), learnt_proposals(model, share):
        peak = _peak(model, inputs, samples)
    without = tuple(n for n, p in model.named_parameters() if p.requires_grad and n not in reached)
    height, width = inputs.shape[-2:]
    return Trial((height, width), len(samples), peak, without, tuple(single), share)


def _peak(model: Any, inputs: Any, samples: list[Any]) -> int:
    def step() -> None:
        loss, _ = model.parse_losses(model(inputs, samples, mode='loss'))
        loss.backward()

    if inputs.is_cuda:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    return peak_of_events(profiler)


@contextmanager
def _watching(model: nn.Module, single: list[str], reached: set[str]) -> Iterator[None]:
    """Note which batch norms see single values and which parameters get a gradient; each is dropped at once.

    The gradients' size is known without a measurement, and beside them a small step's other memory would not show.
    """

    def note_single(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if module.training and args[0].dim() > 2 and args[0][0, 0].numel() == 1 and name not in single:
                single.append(name)

        return hook

    def note_reached(name: str) -> Any:
        def hook(param: nn.Parameter) -> None:
            reached.add(name)
            param.grad = None

        return hook

    handles: list[Any] = [
        module.register_forward_pre_hook(note_single(name))
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    handles += [
        param.register_post_accumulate_grad_hook(note_reached(name))
        for name, param in model.named_parameters()
        if param.requires_grad
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
