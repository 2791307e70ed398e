"""Reasons why a resumed run may differ from an uninterrupted one, although random states and position are restored."""

from typing import Any

from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import IterableDataset, RandomSampler

NOT_VALIDATED = 'not_validated'  # message hub key: the checkpoint was saved before the validation at the same step


def sampler_of(loader: Any) -> Any:
    """Return the sampler that orders the data, which may be inside a batch sampler of mmdet or torch."""
    return getattr(loader.batch_sampler, 'sampler', loader.sampler)


def resume_limits(runner: Runner, consumed: int) -> list[str]:
    """List the reasons why a resumed run may differ from an uninterrupted one.

    Args:
        runner (Runner): A runner that has resumed and not trained yet.
        consumed (int): Number of batches of the current epoch that are skipped.

    Returns:
        list[str]: The reasons; empty if the run continues bit for bit.
    """
    loop, limits = runner.train_loop, []
    loader = loop.dataloader
    if next(runner.model.parameters()).is_cuda:
        limits.append('GPU kernels are not deterministic')
    if loader.num_workers:
        limits.append('num_workers > 0, and the random states of worker processes, used for augmentation, may restart')
    if consumed or isinstance(loop, IterBasedTrainLoop):
        sampler = sampler_of(loader)
        if isinstance(sampler, RandomSampler) and sampler.generator is None:
            limits.append(
                f'{type(sampler).__name__} has no seed, so the rest of this epoch has another order: some images '
                'repeat, others are left out. Use DefaultSampler or InfiniteSampler'
            )
        if isinstance(loader.dataset, IterableDataset):
            limits.append(f'{type(loader.dataset).__name__} is an IterableDataset, whose position is not known')
    if getattr(loop, 'fast_forward_on_resume', False):
        limits.append('fast_forward_on_resume=True restarts the data')
    limits += [
        f'mmengine does not save the state of {type(hook).__name__}, which restarts: use protuning_mm.EarlyStoppingHook'
        for hook in runner.hooks
        if isinstance(hook, EarlyStoppingHook) and not getattr(hook, 'saves_state', False)
    ]
    if NOT_VALIDATED not in runner.message_hub.runtime_info:  # our CheckpointHook sets it and repeats the validation
        limits += [
            f'{type(each).__name__} depends on validation metrics, and misses those of the step of the resumed '
            'checkpoint: use protuning_mm.CheckpointHook'
            for each in schedulers_by_metric(runner)
        ]
    return limits


def schedulers_by_metric(runner: Runner) -> list[Any]:
    """Return the schedulers of a run that depend on validation metrics, such as ``ReduceOnPlateauLR``."""
    schedulers = runner.param_schedulers or []
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
    return [each for group in groups for each in group if getattr(each, 'need_val_args', False)]
