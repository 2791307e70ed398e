"""mmengine's early stopping, with a state that checkpoints contain."""

from typing import Any

from mmengine.hooks import EarlyStoppingHook as _EarlyStoppingHook
from mmengine.runner import Runner

from protuning_mm.registry import HOOKS

_KEY = 'early_stopping'


@HOOKS.register_module()
class EarlyStoppingHook(_EarlyStoppingHook):
    """Stops a run whose validation metric no longer improves; a resumed run stops where the uninterrupted one does.

    mmengine's hook forgets the best score and the number of validations without a better one. This hook saves them in
    each checkpoint. It runs before the checkpoint hook, which saves a new best after a validation.

    Args:
        monitor (str): The metric, such as ``'coco/bbox_mAP'``.
        rule (str, optional): ``'greater'`` or ``'less'``. Defaults to the rule that the metric's name suggests.
        min_delta (float): Least difference that counts as better. Defaults to 0; mmengine's default of 0.1 is large for
            metrics from 0 to 1.
        **kwargs: Further arguments of ``mmengine.hooks.EarlyStoppingHook``, such as ``patience``, the number of
            validations without a better score after which training stops.
    """

    priority = 'NORMAL'
    saves_state = True

    def __init__(self, monitor: str, rule: str | None = None, min_delta: float = 0.0, **kwargs: Any) -> None:
        super().__init__(monitor, rule, min_delta, **kwargs)
        self._stopped = False

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[_KEY] = dict(
            monitor=self.monitor,
            best_score=self.best_score,
            wait_count=self.wait_count,
            stopped=bool(getattr(runner.train_loop, 'stop_training', False)),
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get(_KEY)
        if not runner._resume:
            return
        if saved is None or saved['monitor'] != self.monitor:
            runner.logger.warning(
                f'early stopping starts to count again: the checkpoint has no scores of {self.monitor!r}'
            )
            return
        self.best_score, self.wait_count, self._stopped = saved['best_score'], saved['wait_count'], saved['stopped']

    def before_train(self, runner: Runner) -> None:
        if self._stopped:
            runner.logger.info(f'the run had stopped early at {self.monitor} = {self.best_score:g}; nothing to resume')
            runner.train_loop.stop_training = True
