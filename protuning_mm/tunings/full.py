"""Full fine-tuning."""

from torch import nn

from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning


@TUNINGS.register_module('full')
class FullTuning(Tuning):
    """Trains every parameter; batch norms follow the host's setting (``norm_eval``)."""

    combines = False
    follows_train_mode = True

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        self.trained = frozenset(name for name, _ in backbone.named_parameters())
