"""LoRA: low-rank updates of linear layers and convolutions.

Source: Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, for linear layers. The update of
convolutions is our choice: A has the convolution's kernel size, B is 1x1. Two kinds of layers get no update: layers
with no more parameters than their update (depth-wise convolutions), and the projections inside
``torch.nn.MultiheadAttention``, which are never called as modules. mmseg's VisionTransformer uses that class;
mmpretrain's and timm's do not.
"""

import torch
from torch import nn

from protuning_mm.blocks import LowRank
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError, block_layers


@TUNINGS.register_module('lora')
class LoRATuning(Tuning):
    """A low-rank update of every linear layer and convolution of the blocks.

    Args:
        rank (int): Rank r of the update, in each group of a convolution. Defaults to 4.
        alpha (float): The update is scaled by ``alpha / rank``. Defaults to 4.

    Raises:
        TuningError: ``rank`` is not a positive integer, or every layer is smaller than its update.
    """

    child = 'lora'

    def __init__(self, rank: int = 4, alpha: float = 4) -> None:
        super().__init__()
        if not isinstance(rank, int) or rank < 1:
            raise TuningError(f'{self.name} with rank={rank!r}: rank must be a positive integer')
        self.rank = rank
        self.alpha = alpha

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        for path, layer in block_layers(backbone, stages):
            if isinstance(layer, nn.Linear | nn.Conv2d):
                update = self.make_update(layer)
                if sum(p.numel() for p in update.parameters()) < layer.weight.numel():
                    self.tap(backbone, path, update)
        if self.added is None:
            raise TuningError(
                f'{self.name} with rank={self.rank}: no layer of this backbone is larger than its update; '
                'choose a lower rank'
            )

    def make_update(self, layer: nn.Linear | nn.Conv2d) -> nn.Module:
        """Return the module that computes the updated output from a layer's input and output."""
        return LowRank(layer, self.rank, self.alpha / self.rank)

    @torch.no_grad()
    def merge(self, backbone: nn.Module) -> None:
        for layer, update in self.tapped(backbone):
            layer.weight.copy_(update.merged(layer.weight))
