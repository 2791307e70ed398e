"""Conv-Adapter: a bottleneck parallel to the spatial convolution of every residual block.

Source: Chen et al., *Conv-Adapter: Exploring Parameter Efficient Transfer Learning for ConvNets*, arXiv 2208.07463,
the "convolution parallel" scheme.
"""

from torch import nn

from protuning_mm.blocks import ConvAdapter
from protuning_mm.blocks.adapters import bottleneck_width
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError


@TUNINGS.register_module('conv_adapter')
class ConvAdapterTuning(Tuning):
    """A convolutional adapter in every residual block.

    Args:
        reduction (int): Ratio of the convolution's input channels to the bottleneck width. Defaults to 4.

    Raises:
        TuningError: a block has no ``torch.nn.Conv2d`` (transformers, deformable convolutions).
    """

    child = 'conv_adapter'

    def __init__(self, reduction: int = 4) -> None:
        super().__init__()
        self.reduction = reduction

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        for block in stages.blocks:
            conv = None if block.conv is None else backbone.get_submodule(block.conv)
            if not isinstance(conv, nn.Conv2d):
                raise TuningError(
                    f'conv_adapter needs residual blocks with a plain convolution, and {block.path} has '
                    f'{"none" if conv is None else type(conv).__name__}: '
                    "for transformers use 'adapter' or 'adaptformer'"
                )
            hidden = bottleneck_width(conv.in_channels, self.reduction)
            self.tap(backbone, block.conv, ConvAdapter(conv, hidden))  # type: ignore[arg-type]
