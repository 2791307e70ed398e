"""A lightweight network that runs in parallel to the frozen one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SideNetwork(nn.Module):
    """Computes features with as many stages as the frozen network, and fuses them with the frozen outputs.

    Side-Tuning (Zhang et al., ECCV 2020): α B(x) + (1 - α) S(x), where α is the sigmoid of a learned number that starts
    at 0, as in the paper. Differs from the paper, which has one output: every output is fused, each with its own α.

    A stage consists of a 3x3 depth-wise convolution with stride 2, a 1x1 convolution, a group norm and a ReLU. The stem
    is a 3x3 convolution with stride 4.

    Args:
        channels (Sequence[int]): Channels of each output of the frozen network.
        outs (Sequence[int]): For each output, the index of the stage that it comes from.
        width (int): Channels of the stem; each stage has twice as many channels as the one before.

    Shape:
        - image: (N, 3, H, W)
        - outs: a sequence of (N, C_i, H_i, W_i), or of (N, C_i) for pooled outputs
        - Output: a list of tensors in the shapes of ``outs``
    """

    def __init__(self, channels: Sequence[int], outs: Sequence[int], width: int) -> None:
        super().__init__()
        self.outs = tuple(outs)
        self.stem = nn.Conv2d(3, width, 3, stride=4, padding=1)
        self.stages = nn.ModuleList()
        for i in range(max(outs) + 1):
            c_in, c_out = width * 2**i, width * 2 ** (i + 1)
            self.stages.append(
                nn.Sequential(
                    nn.Conv2d(c_in, c_in, 3, stride=2, padding=1, groups=c_in, bias=False),
                    nn.Conv2d(c_in, c_out, 1, bias=False),
                    nn.GroupNorm(1, c_out),
                    nn.ReLU(),
                )
            )
        self.project = nn.ModuleList(nn.Conv2d(width * 2 ** (i + 1), c, 1) for i, c in zip(outs, channels))
        self.alpha = nn.Parameter(torch.zeros(len(outs)))

    def init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.GroupNorm):
                module.reset_parameters()
        nn.init.zeros_(self.alpha)

    def forward(self, image: Tensor, outs: Sequence[Tensor]) -> list[Tensor]:
        x, features = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        fused = []
        for i, out in enumerate(outs):
            side = self.project[i](features[self.outs[i]])
            if out.dim() == 4:
                side = F.interpolate(side, out.shape[2:], mode='bilinear', align_corners=False)
            else:
                side = side.mean((2, 3))
            alpha = self.alpha[i].sigmoid()
            fused.append(alpha * out + (1 - alpha) * side)
        return fused
