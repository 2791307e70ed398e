"""Bias tuning: every bias is trained.

Source: Ben Zaken et al., *BitFit*, ACL 2022; Cai et al., *TinyTL*, NeurIPS 2020. Biases are those that the
pre-trained network has, the shifts of norms included; convolutions without one get none.
"""

from torch import nn

from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning


@TUNINGS.register_module('bias')
class BiasTuning(Tuning):
    """Trains every parameter whose name ends with ``bias`` (an attention's ``in_proj_bias`` among them)."""

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        self.trained = frozenset(name for name, _ in backbone.named_parameters() if name.endswith('bias'))
