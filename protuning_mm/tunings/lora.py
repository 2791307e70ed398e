"""LoRA: low-rank updates of linear layers and convolutions.

Source: Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022, for linear layers. The update of
convolutions is our choice: A has the convolution's kernel size, B is 1x1. Two kinds of layers get no update: layers
with no more parameters than their update (depth-wise convolutions), and the projections inside
``torch.nn.MultiheadAttention``, which are never called as modules. mmseg's VisionTransformer uses that class;
mmpretrain's and timm's do not.
"""

from collections.abc import Sequence

import torch
from torch import nn

from protuning_mm.blocks import LowRank
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError, block_layers


def _ends_with(path: str, target: str) -> bool:
    return path == target or path.endswith(f'.{target}')


@TUNINGS.register_module('lora')
class LoRATuning(Tuning):
    """A low-rank update of every linear layer and convolution of the blocks.

    Args:
        rank (int): Rank r of the update, in each group of a convolution. Defaults to 4.
        alpha (float): The update is scaled by ``alpha / rank``. Defaults to 4.
        targets (Sequence[str], optional): Names of the layers that get an update, or ends of their paths, such as
            ``('attn.qkv', 'fc1')``. Defaults to all that are larger than their update.

    Raises:
        TuningError: ``rank`` is not a positive integer, every layer is smaller than its update, or a target is the name
            of no linear layer or convolution.
    """

    child = 'lora'

    def __init__(self, rank: int = 4, alpha: float = 4, targets: Sequence[str] | None = None) -> None:
        super().__init__()
        if not isinstance(rank, int) or rank < 1:
            raise TuningError(f'{self.name} with rank={rank!r}: rank must be a positive integer')
        self.rank = rank
        self.alpha = alpha
        self.targets = None if targets is None else tuple(targets)

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        layers = {
            path: layer for path, layer in block_layers(backbone, stages) if isinstance(layer, nn.Linear | nn.Conv2d)
        }
        for target in self.targets or ():
            if not any(_ends_with(path, target) for path in layers):
                last = list(dict.fromkeys(path.rpartition('.')[2] for path in layers))
                raise TuningError(
                    f'{self.name} with targets: {target!r} is the name of no linear layer or convolution of the '
                    f'blocks; there are {", ".join(last[:8])}'
                )
        for path, layer in layers.items():
            update = self.make_update(layer)
            if self.targets is None:
                chosen = sum(p.numel() for p in update.parameters()) < layer.weight.numel()
            else:
                chosen = any(_ends_with(path, target) for target in self.targets)
            if chosen:
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
