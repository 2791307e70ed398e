"""Bias tuning: every bias is trained.

Source: Ben Zaken et al., *BitFit*, ACL 2022; Cai et al., *TinyTL*, NeurIPS 2020. Only biases of the pre-trained network
are trained, including the shifts of norms; no bias is added to a convolution without one.
"""

from torch import nn

from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning


@TUNINGS.register_module('bias')
class BiasTuning(Tuning):
    """Trains every parameter whose name ends with ``bias``, including ``in_proj_bias`` of an attention layer."""

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        self.trained = frozenset(name for name, _ in backbone.named_parameters() if name.endswith('bias'))
