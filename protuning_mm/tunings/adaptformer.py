"""AdaptFormer: a bottleneck parallel to every MLP.

Source: Chen et al., *AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition*, NeurIPS 2022.
Differs from the paper: the bottleneck's input is the MLP's input after the layer norm, not before.
"""

from torch import nn

from protuning_mm.blocks import ParallelAdapter
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError


@TUNINGS.register_module('adaptformer')
class AdaptFormerTuning(Tuning):
    """A bottleneck parallel to the MLP of every transformer layer.

    Args:
        hidden (int): Width of the bottleneck. Defaults to 64.
        scale (float): Scale s of the bottleneck's output. Defaults to 0.1.

    Raises:
        TuningError: a block has no MLP (convolutional networks).
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
