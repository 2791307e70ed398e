"""AdaptFormer: a bottleneck beside every MLP.

Source: Chen et al., *AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition*, NeurIPS 2022.
Differs: its bottleneck sees the MLP's input after the layer norm, where theirs sees it before.
"""

from torch import nn

from protuning_mm.blocks import ParallelAdapter
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError


@TUNINGS.register_module('adaptformer')
class AdaptFormerTuning(Tuning):
    """A parallel bottleneck at every transformer layer's MLP.

    Args:
        hidden (int): Width of the bottleneck. Defaults to 64.
        scale (float): s. Defaults to 0.1.

    Raises:
        TuningError: the blocks have no MLP (convolutional networks).
    """

    child = 'adaptformer'

    def __init__(self, hidden: int = 64, scale: float = 0.1) -> None:
        super().__init__()
        self.hidden = hidden
        self.scale = scale

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        for stage in stages.stages:
            for block in stage.blocks:
                if block.mlp is None:
                    raise TuningError(
                        f"adaptformer needs transformer layers, and {block.path} has no MLP: use 'conv_adapter'"
                    )
                self.tap(backbone, block.mlp, ParallelAdapter(stage.channels, self.hidden, self.scale))
