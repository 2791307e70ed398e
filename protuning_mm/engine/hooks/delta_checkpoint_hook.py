"""Checkpoints that hold what was trained, and know the base that they were trained on."""

from typing import Any

from mmengine.runner import Runner

from protuning_mm.backbones import tuned_backbones
from protuning_mm.engine.hooks.checkpoint_hook import CheckpointHook
from protuning_mm.engine.unwrap import unwrap
from protuning_mm.registry import HOOKS
from protuning_mm.weights import CheckpointError
from protuning_mm.weights.deltas import make_delta
from protuning_mm.weights.fingerprint import Fingerprint, fingerprint


@HOOKS.register_module()
class DeltaCheckpointHook(CheckpointHook):
    """:class:`CheckpointHook` without the frozen tensors in its files.

    What is left is everything that differs from the base: trained parameters, buffers of trained norms, counters;
    optimizer, schedulers, EMA, message hub and all else that training resumes from. Best checkpoints and
    ``save_optimizer=False`` leave the optimizer out, as mmengine's do. All arguments are mmengine's. Another
    CheckpointHook of the same run keeps writing whole checkpoints.

    Raises:
        CheckpointError: the model has no tuned backbone, so there is no base to leave out.
        FrozenWeightsError: a frozen tensor changed since the start; no delta of it would fit its base.
    """

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        backbones = tuned_backbones(unwrap(runner.model))
        if not backbones:
            raise CheckpointError(
                f'DeltaCheckpointHook: {type(unwrap(runner.model)).__name__} has no ProTunedResNet or TunedBackbone '
                'whose frozen tensors could be left out; use protuning_mm.CheckpointHook'
            )
        self._bases: dict[str, Fingerprint] = {
            name: fingerprint(each.frozen_tensors()) for name, each in backbones.items()
        }

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """After every other hook: EMA has swapped its averages in by now."""
        super().before_save_checkpoint(runner, checkpoint)
        if self._saving:
            make_delta(checkpoint, tuned_backbones(unwrap(runner.model)), self._bases)
