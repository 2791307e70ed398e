"""Norm tuning: the affine parameters of every norm are trained.

Source: Frankle et al., *Training BatchNorm and Only BatchNorm*, ICLR 2021, which starts from random weights; and
LayerNorm tuning of transformers, as in Kim et al., *How to Adapt Your Large-Scale Vision-and-Language Model*, 2021.
Our choice: batch norms keep their pre-trained statistics.
"""

from torch import nn

from protuning_mm.blocks.layers import is_norm
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning


@TUNINGS.register_module('norm')
class NormTuning(Tuning):
    """Trains weight and bias of every batch, layer, group and instance norm."""

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        self.trained = frozenset(
            f'{path}.{name}' if path else name
            for path, module in backbone.named_modules()
            if is_norm(module)
            for name, _ in module.named_parameters(recurse=False)
        )
