"""What a resumed run cannot repeat although its random streams and its place are right: said, not left to be found."""

from typing import Any

from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import IterableDataset, RandomSampler

NOT_VALIDATED = 'not_validated'  # in the message hub: a checkpoint was saved before the validation of its moment


def sampler_of(loader: Any) -> Any:
    """The sampler that orders the data; a batch sampler of mmdet's or torch's holds it."""
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def resume_limits(runner: Runner, consumed: int) -> list[str]:
    """Tell what stays inexact in this run.

    Args:
        runner (Runner): A runner that has resumed and not yet trained.
        consumed (int): How many batches of the current epoch are passed over.

    Returns:
        list[str]: A reason each; empty where the run goes on bit for bit, on a CPU.
    """
    loop, limits = runner.train_loop, []
    loader = loop.dataloader
    if next(runner.model.parameters()).is_cuda:
        limits.append('kernels on a GPU need not give the same bits twice')
    if loader.num_workers:
        limits.append(
            'num_workers > 0, and worker processes augment from random streams of their own, which may begin anew'
        )
    if consumed or isinstance(loop, IterBasedTrainLoop):
        sampler = sampler_of(loader)
        if isinstance(sampler, RandomSampler) and sampler.generator is None:
            limits.append(
                f"{type(sampler).__name__} has no seed, so the rest of this epoch's order is another: images repeat "
                'and are left out. Take DefaultSampler or InfiniteSampler'
            )
        if isinstance(loader.dataset, IterableDataset):
            limits.append(f'{type(loader.dataset).__name__} is an IterableDataset, whose place is not known')
    if getattr(loop, 'fast_forward_on_resume', False):
        limits.append('fast_forward_on_resume=True begins the data anew')
    return limits + _of_validation(runner)


def _of_validation(runner: Runner) -> list[str]:
    """What follows validation's metrics and is not in a checkpoint, or is there from before them."""
    limits = [
        f'mmengine saves nothing of {type(hook).__name__}, which counts anew'
        for hook in runner.hooks
        if isinstance(hook, EarlyStoppingHook)
    ]
    if NOT_VALIDATED in runner.message_hub.runtime_info:  # our CheckpointHook's: what was missed is done
        return limits
    return limits + [
        f"{type(each).__name__} follows validation's metrics, and misses those of the resumed checkpoint's moment: "
        "take this package's CheckpointHook"
        for each in schedulers_by_metric(runner)
    ]


def schedulers_by_metric(runner: Runner) -> list[Any]:
    """List the schedulers of a run that follow validation's metrics, such as ``ReduceOnPlateauLR``."""
    schedulers = runner.param_schedulers or []
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
    return [each for group in groups for each in group if getattr(each, 'need_val_args', False)]
