"""SSF: a scale and a shift after every layer.

Source: Lian et al., *Scaling & Shifting Your Features*, NeurIPS 2022: after linear layers, convolutions and norms. Our
choice: only layers in the stages' blocks. Left out are layer norms over feature maps, norms with a built-in activation
(timm's BatchNormAct2d) and the projections inside ``torch.nn.MultiheadAttention``.
"""

import torch
from torch import nn

from protuning_mm.blocks import ScaleShift
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError, block_layers


@TUNINGS.register_module('ssf')
class SSFTuning(Tuning):
    """A learned scale and shift per channel after the layers of every block."""

    child = 'ssf'

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        for path, layer in block_layers(backbone, stages):
            if isinstance(layer, nn.Conv2d):
                self.tap(backbone, path, ScaleShift(layer.out_channels, 1))
            elif type(layer) in (nn.BatchNorm2d, nn.SyncBatchNorm):
                self.tap(backbone, path, ScaleShift(layer.num_features, 1))
            elif isinstance(layer, nn.Linear):
                self.tap(backbone, path, ScaleShift(layer.out_features, -1))
            elif type(layer) is nn.LayerNorm:
                self.tap(backbone, path, ScaleShift(layer.normalized_shape[0], -1))

    @torch.no_grad()
    def merge(self, backbone: nn.Module) -> None:
        for path, user in self.weight_users.items():
            raise TuningError(
                f'ssf cannot be merged: {user!r} uses the weight of {path!r} directly and adds its own bias, so the '
                'shift cannot be stored in that layer'
            )
        for layer, added in self.tapped(backbone):
            scale, shift = added.scale.flatten(), added.shift.flatten()
            layer.weight *= scale.reshape(-1, *[1] * (layer.weight.dim() - 1))
            if layer.bias is None:
                layer.bias = nn.Parameter(shift.clone())
            else:
                layer.bias.mul_(scale).add_(shift)
