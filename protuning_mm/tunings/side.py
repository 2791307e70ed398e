"""Side-Tuning: a lightweight network parallel to the frozen one, fused with its outputs.

Source: Zhang et al., *Side-Tuning: A Baseline for Network Adaptation via Additive Side Networks*, ECCV 2020. The
architecture of the side network is our choice (:class:`~protuning_mm.blocks.SideNetwork`). It does not feed any frozen
stage.
"""

from typing import Any

from torch import Tensor, nn

from protuning_mm.blocks import SideNetwork
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError


@TUNINGS.register_module('side')
class SideTuning(Tuning):
    """Returns α times the frozen outputs plus 1 - α times the outputs of a side network.

    Args:
        width (int): Channels of the side network's stem. Defaults to 32.

    Raises:
        TuningError: the backbone's outputs are neither maps (N, C, H, W) nor pooled features (N, C).
    """

    child = 'side'
    identity_at_init = False

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        self.added = nn.ModuleList([SideNetwork(stages.out_channels, stages.outs, self.width)])

    def after_forward(self, image: Tensor, outs: Any) -> Any:
        single = isinstance(outs, Tensor)
        features = [outs] if single else list(outs)
        if not all(isinstance(out, Tensor) and out.dim() in (2, 4) for out in features):
            raise TuningError(
                'side needs outputs that are feature maps (N, C, H, W) or pooled features (N, C): set out_type or '
                'output_cls_token of the backbone accordingly'
            )
        fused = self.added[0](image, features)  # type: ignore[index]
        return fused[0] if single else type(outs)(fused)
