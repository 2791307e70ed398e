"""Partial-k: the last k blocks are trained.

Source: Yosinski et al., *How transferable are features in deep neural networks?*, NeurIPS 2014, and the comparison in
the Pro-Tuning paper. Our choice: a block is a residual block or a transformer layer, as the paper's parameter counts
imply; its batch norms keep their pre-trained statistics; norms after the last block that belong to no stage stay
frozen.
"""

from torch import nn

from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError


@TUNINGS.register_module('partial')
class PartialTuning(Tuning):
    """Trains the last ``k`` blocks.

    Args:
        k (int): Number of blocks. Defaults to 2.

    Raises:
        TuningError: the backbone has fewer than ``k`` blocks.
    """

    def __init__(self, k: int = 2) -> None:
        super().__init__()
        self.k = k

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        blocks = stages.blocks
        if not isinstance(self.k, int) or not 1 <= self.k <= len(blocks):
            raise TuningError(
                f'partial with k={self.k!r}: k must be from 1 to {len(blocks)}, the number of blocks of this backbone'
            )
        starts = tuple(f'{block.path}.' for block in blocks[-self.k :])
        self.trained = frozenset(name for name, _ in backbone.named_parameters() if name.startswith(starts))
