"""A checkpoint hook that saves deltas: the trained tensors and a record of their base."""

from typing import Any

from mmengine.runner import Runner

from protuning_mm.backbones import tuned_backbones
from protuning_mm.engine.hooks.checkpoint_hook import CheckpointHook
from protuning_mm.engine.unwrap import unwrap
from protuning_mm.registry import HOOKS
from protuning_mm.weights import CheckpointError
from protuning_mm.weights.deltas import make_delta
from protuning_mm.weights.fingerprint import fingerprint


@HOOKS.register_module()
class DeltaCheckpointHook(CheckpointHook):
    """A :class:`CheckpointHook` that leaves out the frozen tensors.

    Its files contain everything that differs from the base (trained parameters, buffers of trained norms, counters) and
    everything needed to resume training (optimizer, schedulers, EMA, message hub). As in mmengine, best checkpoints
    and those saved with ``save_optimizer=False`` do not contain the optimizer. All arguments are mmengine's. Another
    CheckpointHook in the same run still writes complete checkpoints.

    Raises:
        CheckpointError: the model contains no tuned backbone.
        FrozenWeightsError: a frozen tensor changed since the start, so a delta would not fit its base.
    """

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        backbones = tuned_backbones(unwrap(runner.model))
        if not backbones:
            raise CheckpointError(
                f'DeltaCheckpointHook: {type(unwrap(runner.model)).__name__} has no ProTunedResNet or TunedBackbone '
                'whose frozen tensors could be left out; use protuning_mm.CheckpointHook'
            )
        self._bases = {name: fingerprint(each.frozen_tensors()) for name, each in backbones.items()}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Make the delta. This hook runs after all others, so that EMA has already swapped in its averages."""
        super().before_save_checkpoint(runner, checkpoint)
        if self._saving:
            make_delta(checkpoint, tuned_backbones(unwrap(runner.model)), self._bases)
