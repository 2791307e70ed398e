"""A hook that repeats, after a resume, the validation that followed the resumed checkpoint."""

from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from protuning_mm.engine.resume_limits import NOT_VALIDATED, schedulers_by_metric


class UnfinishedValidationHook(Hook):
    """Repeats a validation after all other hooks' ``before_train``; :class:`CheckpointHook` registers this hook.

    A run saves a checkpoint, validates, saves the best checkpoint, and then saves the checkpoint again. If it is killed
    before that last save, the checkpoint lacks the result of the validation: the best score is lost, and a scheduler
    that depends on metrics misses a step. The validation is only repeated if the run uses its metrics.
    """

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if not runner._resume or not runner.message_hub.runtime_info.pop(NOT_VALIDATED, False):
            return
        known = isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop)
        if runner.val_loop is None or not known or not _needs_metrics(runner):
            return
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        moment, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        loop._decide_current_val_interval()
        if moment and moment >= loop.val_begin and (moment % loop.val_interval == 0 or moment == last):
            runner.logger.info('the checkpoint was saved before the validation at the same step, which runs now')
            runner.val_loop.run()


def _needs_metrics(runner: Runner) -> bool:
    """Return whether a hook or scheduler of the run depends on validation metrics."""
    watching = (getattr(hook, 'save_best', None) or isinstance(hook, EarlyStoppingHook) for hook in runner.hooks)
    return any(watching) or bool(schedulers_by_metric(runner))
