"""Adapters: bottlenecks inside the transformer layers.

Source: Houlsby et al., *Parameter-Efficient Transfer Learning for NLP*, ICML 2019. The Pro-Tuning paper compares
"Adapter1" and "Adapter2" without defining them. Our interpretation: one adapter per layer, after the MLP, and two,
after the attention and after the MLP; both act before the residual sum.
"""

from torch import nn

from protuning_mm.blocks import Adapter
from protuning_mm.blocks.adapters import bottleneck_width
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError


@TUNINGS.register_module('adapter')
class AdapterTuning(Tuning):
    """One or two bottleneck adapters in every transformer layer.

    Args:
        variant (int): 1: an adapter after the MLP. 2: another one after the attention. Defaults to 1.
        reduction (int): Ratio of channels to bottleneck width. Defaults to 8.

    Raises:
        TuningError: ``variant`` is neither 1 nor 2, or a block has no attention and MLP (convolutional networks).
    """

    child = 'adapter'

    def __init__(self, variant: int = 1, reduction: int = 8) -> None:
        super().__init__()
        if variant not in (1, 2):
            raise TuningError(f'adapter with variant={variant!r}: variant must be 1 or 2')
        self.variant = variant
        self.reduction = reduction

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        for stage in stages.stages:
            for block in stage.blocks:
                if block.mlp is None or block.attention is None:
                    raise TuningError(
                        f'adapter needs transformer layers, and {block.path} has no attention and MLP: '
                        "use 'conv_adapter'"
                    )
                for path in (block.mlp, block.attention)[: self.variant]:
                    hidden = bottleneck_width(stage.channels, self.reduction)
                    self.tap(backbone, path, Adapter(stage.channels, hidden))
