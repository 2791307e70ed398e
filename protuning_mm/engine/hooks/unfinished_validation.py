"""Doing, after a resume, the validation that belongs to the moment of the checkpoint and that it was saved before."""

from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from protuning_mm.engine.resume_limits import NOT_VALIDATED, schedulers_by_metric


class UnfinishedValidationHook(Hook):
    """Runs once, behind every other hook's ``before_train``; :class:`CheckpointHook` brings it along.

    A checkpoint is saved, then comes the validation of its moment, then the best checkpoint is saved, and the
    checkpoint once more. A run that was killed before that last save resumes from a checkpoint that knows nothing of
    the validation: its best was forgotten, and a scheduler that follows the metrics missed a step. Where nothing of the
    kind is in the run, it is not done again.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if not runner._resume or not runner.message_hub.runtime_info.pop(NOT_VALIDATED, False):
            return
        if runner.val_loop is None or not isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop):
            return
        if not _needs_metrics(runner):
            return
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        moment, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        loop._decide_current_val_interval()
        if moment and moment >= loop.val_begin and (moment % loop.val_interval == 0 or moment == last):
            runner.logger.info('the checkpoint was saved before the validation of its moment, which is done now')
            runner.val_loop.run()


def _needs_metrics(runner: Runner) -> bool:
    """Whether anything in a run goes by what validation computes."""
    watching = (getattr(hook, 'save_best', None) or isinstance(hook, EarlyStoppingHook) for hook in runner.hooks)
    return any(watching) or bool(schedulers_by_metric(runner))
