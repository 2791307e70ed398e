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
        patience (int): Number of validations without a better score after which training stops. Defaults to 5.
        **kwargs: Further arguments of ``mmengine.hooks.EarlyStoppingHook``.
    """

    priority = 'NORMAL'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint[_KEY] = dict(monitor=self.monitor, best_score=self.best_score, wait_count=self.wait_count)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get(_KEY)
        if not runner._resume:
            return
        if saved is None or saved['monitor'] != self.monitor:
            runner.logger.warning(
                f'early stopping starts to count again: the checkpoint has no scores of {self.monitor!r}'
            )
            return
        self.best_score, self.wait_count = saved['best_score'], saved['wait_count']
