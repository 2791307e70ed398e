"""The loss on the validation images, as a metric."""

import copy
import random
from collections.abc import Iterator, MutableMapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.random_state import random_state, set_random_state
from protuning_mm.registry import HOOKS

METRIC = 'val_loss'


@HOOKS.register_module()
class ValLossHook(Hook):
    """Adds ``val_loss`` to the metrics of each validation: the mean loss on the validation images.

    The hosts validate by predictions alone, and load annotations after resizing. This hook loads the images once more,
    with the annotations resized along, without augmentations of the batch, and in eval mode. ``save_best`` and
    ``EarlyStoppingHook`` may name the metric. The random generators are left as they were, so that training is the same
    with and without the hook.

    Args:
        max_batches (int, optional): Use only the first batches of the validation loader. Defaults to all.
    """

    priority = 'HIGHEST'  # before the hook that records the metrics of a validation

    def __init__(self, max_batches: int | None = None) -> None:
        if max_batches is not None and (not isinstance(max_batches, int) or max_batches < 1):
            raise ConfigError(f'ValLossHook: max_batches={max_batches!r} must be a positive integer, or None for all')
        self.max_batches = max_batches
        self._loader: Any = None

    def before_train(self, runner: Runner) -> None:
        """Build the loader, and try it on a batch.

        Raises:
            ConfigError: the run has no validation data loader in its config, or the loss cannot be computed.
        """
        loader = runner.cfg.get('val_dataloader')
        if not isinstance(loader, MutableMapping):
            raise ConfigError('ValLossHook needs a val_dataloader in the config')
        self._loader = Runner.build_dataloader(make_loader_config(loader), seed=runner.seed)
        was_training = runner.model.training
        try:
            self._mean_loss(runner, 1)
        except Exception as error:
            raise ConfigError(
                f'ValLossHook: the loss of a validation batch cannot be computed ({type(error).__name__}: {error}). '
                'The validation data must have all annotations that training uses, such as the stuff maps of HTC; '
                'otherwise remove the hook'
            ) from error
        finally:
            runner.model.train(was_training)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if metrics is not None and self._loader is not None:
            metrics[METRIC] = self._mean_loss(runner, self.max_batches)

    @torch.no_grad()
    def _mean_loss(self, runner: Runner, max_batches: int | None) -> float:
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        preprocessor = model.eval().data_preprocessor
        augments, state = getattr(preprocessor, 'batch_augments', None), random_state()
        total = torch.zeros(2, dtype=torch.float64, device=preprocessor.device)  # sum of losses, number of images
        try:
            if augments is not None:
                preprocessor.batch_augments = None
            random.seed(0)
            np.random.seed(0)
            torch.manual_seed(0)
            for i, batch in enumerate(self._loader):
                if max_batches is not None and i >= max_batches:
                    break
                data = preprocessor(batch, training=True)
                loss, _ = model.parse_losses(model._run_forward(data, mode='loss'))
                number = len(batch['inputs'])
                total += torch.tensor([float(loss) * number, number], dtype=torch.float64, device=total.device)
        finally:
            set_random_state(state)
            if augments is not None:
                preprocessor.batch_augments = augments
        all_reduce(total)
        return float(total[0] / total[1])


def make_loader_config(loader: MutableMapping[str, Any]) -> Any:
    """Return a copy of a validation loader's config whose pipelines load annotations directly after the image."""
    found = copy.deepcopy(loader)
    for holder in _pipelines(found):
        steps = list(holder['pipeline'])
        loads = [step for step in steps if str(step.get('type')).endswith('LoadAnnotations')]
        first = next((i for i, step in enumerate(steps) if 'LoadImage' in str(step.get('type'))), None)
        if loads and first is not None:
            rest = [step for step in steps if step not in loads]
            holder['pipeline'] = [*rest[: first + 1], *loads, *rest[first + 1 :]]
    return found


def _pipelines(node: Any) -> Iterator[Any]:
    if isinstance(node, MutableMapping):
        if isinstance(node.get('pipeline'), list | tuple):
            yield node
        for value in node.values():
            yield from _pipelines(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _pipelines(value)
