"""A hook that stops a run if a frozen tensor has changed."""

import time
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from protuning_mm.backbones import tuned_backbones
from protuning_mm.engine.unwrap import unwrap
from protuning_mm.registry import HOOKS
from protuning_mm.weights import FrozenWeightsError
from protuning_mm.weights.fingerprint import Fingerprint, fingerprint
from protuning_mm.weights.listing import listed


@HOOKS.register_module()
class FrozenAuditHook(Hook):
    """Fingerprints the frozen tensors before training, at every save and at the end; a difference stops the run.

    Each time it computes SHA-256 over the frozen tensors (docs/reliability.md states the time). A tuning that updates
    the statistics of batch norms (``full``) has no frozen tensors, so nothing is audited.

    Raises:
        FrozenWeightsError: frozen tensors changed, were added or were removed; the message lists them.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self) -> None:
        self._before: dict[str, Fingerprint] = {}

    def before_train(self, runner: Runner) -> None:
        start = time.perf_counter()
        backbones = tuned_backbones(unwrap(runner.model))
        self._before = {name: fingerprint(each.frozen_tensors()) for name, each in backbones.items()}
        took = time.perf_counter() - start
        for name, found in self._before.items():
            runner.logger.info(
                f'{name}: {len(found.digests)} frozen tensors, fingerprint {found.total[:12]} ({took:.2f} s an audit)'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self._audit(runner, 'nothing was saved')

    def after_train(self, runner: Runner) -> None:
        self._audit(runner, 'checkpoints that were saved before are intact')

    def _audit(self, runner: Runner, consequence: str) -> None:
        if not self._before:  # a save outside of training
            return
        for name, backbone in tuned_backbones(unwrap(runner.model)).items():
            moved = self._before[name].find_changes(fingerprint(backbone.frozen_tensors()))
            if moved:
                untrained = (
                    f' Nothing in {name} is trained. If it is an average of another backbone (EMA, mean teacher), '
                    'averaging has rounded its tensors. Load both backbones from the same file: '
                    'protuning_mm.TuningHook then keeps their frozen tensors equal.'
                )
                raise FrozenWeightsError(
                    f'{len(moved)} frozen tensors of {name} have changed since the start of training (found at '
                    f'iteration {runner.iter}); {consequence}:' + listed('moved', moved) + '\nPossible causes: an '
                    'optimizer that was built with all parameters, a hook, or batch norms in training mode.'
                    + ('' if any(param.requires_grad for param in backbone.parameters()) else untrained)
                )
