"""Mona: a bottleneck with depth-wise convolutions of three sizes, for feature maps of a transformer.

Source: Yin et al., *5%>100%: Breaking Performance Shackles of Full Fine-Tuning on Visual Recognition Tasks*, CVPR 2025
(arXiv 2408.08345), equations 4 to 7 and the authors' code, which adds a second residual around the 1x1 convolution.
Differs from it: ``up`` starts at zero, so that the network starts as the plain one.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

KERNELS = (3, 5, 7)


class Mona(nn.Module):
    """x + up(drop(gelu(conv(down(s1 norm(x) + s2 x))))).

    ``conv`` adds the mean of three depth-wise convolutions, of 3x3, 5x5 and 7x7, and then a 1x1 convolution, each with
    a residual. s1 and s2 are learned, one value per channel; s1 starts at 1e-6 and s2 at one.

    Args:
        channels (int): Channels C.
        hidden (int): Width of the bottleneck. Defaults to 64.
        dropout (float): Dropout before ``up``. Defaults to 0.1.

    Shape:
        - Input: (N, C, H, W)
        - Output: (N, C, H, W)
    """

    def __init__(self, channels: int, hidden: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.norm_scale = nn.Parameter(torch.empty(channels))
        self.scale = nn.Parameter(torch.empty(channels))
        self.down = nn.Linear(channels, hidden)
        self.convs = nn.ModuleList(nn.Conv2d(hidden, hidden, k, padding=k // 2, groups=hidden) for k in KERNELS)
        self.mix = nn.Conv2d(hidden, hidden, 1)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(hidden, channels)
        self.init_weights()

    def init_weights(self) -> None:
        for module in (self.norm, self.down, *self.convs, self.mix):
            module.reset_parameters()
        nn.init.constant_(self.norm_scale, 1e-6)
        nn.init.ones_(self.scale)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.permute(0, 2, 3, 1)
        h = self.down(self.norm(tokens) * self.norm_scale + tokens * self.scale).permute(0, 3, 1, 2)
        h = h + sum(conv(h) for conv in self.convs) / len(KERNELS)
        h = h + self.mix(h)
        out: Tensor = x + self.up(self.dropout(functional.gelu(h).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return out
