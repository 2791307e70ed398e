"""Trial training steps on noise images, to check gradients and measure memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn
from torch.profiler import ProfilerActivity, profile

from protuning_mm.doctor.fake_proposals import find_proposal_samplers, use_fake_proposals
from protuning_mm.doctor.findings import describe_error
from protuning_mm.doctor.noise_batch import Batch, make_noise_batch
from protuning_mm.doctor.samples import load_training_batch
from protuning_mm.doctor.training_setup import TrainingSetup, find_pretrained

SMALL_SIZES = ((192, 192), (288, 288))
LARGER_SIZES = ((256, 256), (320, 320))  # for models that select hundreds of tokens, such as DINO
MAX_FALLBACK_AREA = 640 * 640  # pixels
IMAGES = 2  # batch norms need more than one
SHARES = (1 / 4, 1 / 8)  # of the number of proposals that samplers take; a step with all of them would take minutes


@dataclass(frozen=True)
class TrialStep:
    """The result of one trial step on :data:`IMAGES` images.

    Args:
        size (tuple[int, int]): Height and width of the images.
        peak (int): Peak memory of the step in bytes, without the model and the parameters' gradients.
        without_gradient (tuple[str]): Names of trained parameters that got no gradient.
        single_value_norms (tuple[str]): Names of batch norms in training mode that got one value per channel and image.
        share (float): Number of sampled proposals as a fraction of the number in training. Defaults to 1.
    """

    size: tuple[int, int]
    peak: int
    without_gradient: tuple[str, ...]
    single_value_norms: tuple[str, ...]
    share: float = 1.0


def run_trial_steps(setup: TrainingSetup, size: tuple[int, int] | None) -> list[TrialStep]:
    """Run a training step on noise images of two small sizes.

    A two-stage detector samples fewer proposals than in training. It runs a third step with even fewer, from which the
    memory per proposal is computed. If the model fails on small images, larger ones are tried, and then one step on
    noise images of the training's size, unless that is unknown or large. If there is no such step or it fails too, one
    step runs on images of the training set.

    The steps update the statistics of batch norms, and modules are initialized (:func:`init_modules`). Checks of the
    model's weights must therefore run before.

    Args:
        setup (TrainingSetup): The config, with its model, which is moved to its device.
        size (tuple[int, int], optional): Height and width of the images in training.

    Raises:
        RuntimeError: the model fails on noise, and it fails on the training set or that is missing. The message gives
            the errors.
    """
    init_modules(setup.model)
    # mmengine does the same if there is one process; SyncBN does not run on a CPU
    setup.model = revert_sync_batchnorm(setup.model).to(setup.device).train()
    try:
        return _run_on_noise(setup, size)
    except Exception as error:
        try:
            batch = load_training_batch(setup, IMAGES)
            if batch is not None:
                return [_run_step(setup, batch, SHARES[0] if find_proposal_samplers(setup.model) else 1.0)]
        except Exception as second:
            both = f'on noise: {describe_error(error)}; on the training set: {describe_error(second)}'
            raise RuntimeError(both) from error
        raise RuntimeError(f'on noise: {describe_error(error)}; the training set is missing') from error


def _run_on_noise(setup: TrainingSetup, training_size: tuple[int, int] | None) -> list[TrialStep]:
    def run(size: tuple[int, int], share: float = 1.0) -> TrialStep:
        return _run_step(setup, make_noise_batch(setup.model, IMAGES, size, setup.device), share)

    def run_all(sizes: tuple[tuple[int, int], ...]) -> list[TrialStep]:
        if not find_proposal_samplers(setup.model):
            return [run(size) for size in sizes]
        return [*(run(size, SHARES[0]) for size in sizes), run(sizes[0], SHARES[1])]

    try:
        return run_all(SMALL_SIZES)
    except Exception:
        with suppress(Exception):
            return run_all(LARGER_SIZES)
        if training_size is None or training_size[0] * training_size[1] > MAX_FALLBACK_AREA:
            raise
        return [run(training_size)]


def init_modules(model: nn.Module) -> None:
    """Initialize a model, except its backbone and children that would load a checkpoint.

    Some models cannot be trained with the values that they are built with: Sparse R-CNN's learned boxes would have
    negative sizes, and DINO's own parameter, an embedding of the feature levels, is memory that nobody has written.
    """
    for parameter in model.parameters(recurse=False):
        nn.init.normal_(parameter)
    child: Any
    for name, child in model.named_children():
        loaded = any(find_pretrained(module) for module in child.modules())
        if name != 'backbone' and not loaded and hasattr(child, 'init_weights'):
            child.init_weights()


def _run_step(setup: TrainingSetup, batch: Batch, share: float) -> TrialStep:
    model, (inputs, samples) = setup.model, batch

    def step() -> None:
        loss, _ = model.parse_losses(model(inputs, samples, mode='loss'))
        loss.backward()

    with _recording(model) as (single, with_gradient), use_fake_proposals(model, share):
        peak = measure_peak(step, inputs.device)
    without = tuple(n for n, p in model.named_parameters() if p.requires_grad and n not in with_gradient)
    height, width = inputs.shape[-2:]
    return TrialStep((height, width), peak, without, tuple(single), share)


def measure_peak(step: Callable[[], Any], device: torch.device) -> int:
    """Return the peak of the bytes that a step allocates in addition to those in use before it.

    CUDA's allocator reports the peak. On a CPU it is summed from the profiler's memory events.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    allocations = [event for event in profiler.profiler.kineto_results.events() if event.name() == '[memory]']
    allocations.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in allocations), initial=0))


@contextmanager
def _recording(model: nn.Module) -> Iterator[tuple[set[str], set[str]]]:
    """Record the batch norms that get single values and the parameters that get a gradient, and free each gradient.

    The size of the gradients is known without a measurement. If they were kept, they would hide the other memory of a
    small step.
    """
    single: set[str] = set()
    with_gradient: set[str] = set()

    def record_single(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        if module.training and args[0].dim() > 2 and args[0][0, 0].numel() == 1:
            single.add(name)

    def record_gradient(name: str, param: nn.Parameter) -> None:
        with_gradient.add(name)
        param.grad = None

    handles: list[Any] = [
        module.register_forward_pre_hook(partial(record_single, name))
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    handles += [
        param.register_post_accumulate_grad_hook(partial(record_gradient, name))
        for name, param in model.named_parameters()
        if param.requires_grad
    ]
    try:
        yield single, with_gradient
    finally:
        for handle in handles:
            handle.remove()
