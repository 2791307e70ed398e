"""Prompt blocks that Pro-Tuning does not offer, for the study that compares them (studies/grids/lite_blocks.py).

A variant that wins becomes an argument of :class:`protuning_mm.blocks.PromptBlock`; the others stay here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from protuning_lab.prompt_readings import GroupedPromptBlock
from protuning_mm.blocks import PromptBlock
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.pro import ProTuning


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of each position of a feature map (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TwoKernels(nn.Module):
    """The sum of two depth-wise convolutions with different kernel sizes."""

    def __init__(self, channels: int, sizes: Sequence[int] = (3, 7), bias: bool = False) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels, bias=bias) for size in sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.convs
        out: Tensor = first(x) + second(x)
        return out


class Scaled(nn.Module):
    """A prompt times a learned scalar β, which starts at 0; the prompt itself starts at random."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        prompt: Tensor = self.block(x)
        return self.scale * prompt


class RelativeChannels(nn.Module):
    """A prompt whose channels are multiplied by the root mean square of the same channel of its input."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        prompt: Tensor = self.block(x)
        return prompt * x.detach().square().mean((2, 3), keepdim=True).sqrt()


def _layer_norm(channels: int, **prompt: Any) -> nn.Module:
    block = PromptBlock(channels, **prompt)
    block.norm1, block.norm2 = (ChannelNorm(block.reduce.out_channels, eps=1e-6) for _ in range(2))
    return block


def _two_kernels(channels: int, **prompt: Any) -> nn.Module:
    block = PromptBlock(channels, **prompt)
    both: Any = TwoKernels(block.reduce.out_channels)
    block.depthwise = both
    return block


VARIANTS: dict[str, Callable[..., nn.Module]] = {
    'layer_norm': _layer_norm,
    'two_kernels': _two_kernels,
    'scalar': lambda channels, **prompt: Scaled(PromptBlock(channels, init='random', **prompt)),
    'relative_channels': lambda channels, **prompt: RelativeChannels(PromptBlock(channels, relative=False, **prompt)),
    'grouped': GroupedPromptBlock,
    'grouped_norms': lambda channels: GroupedPromptBlock(channels, norms=True),
}


@TUNINGS.register_module('pro_variant')
class ProVariant(ProTuning):
    """Pro-Tuning with another prompt block.

    Args:
        block (str): One of :data:`VARIANTS`.
        prompt_stages (Sequence[int], optional): As in :class:`~protuning_mm.tunings.pro.ProTuning`.
        **prompt: Arguments of the block.

    Raises:
        ValueError: ``block`` is unknown, or an argument does not fit.
    """

    def __init__(self, block: str, prompt_stages: Sequence[int] | None = None, **prompt: Any) -> None:
        if block not in VARIANTS:
            raise ValueError(f'block={block!r}: must be one of {", ".join(VARIANTS)}')
        super().__init__(prompt_stages)
        self.block, self.arguments = block, prompt

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        super().setup(backbone, stages)
        for i in self.prompt_stages or ():
            self.prompts[i] = VARIANTS[self.block](stages.channels[i], **self.arguments)

    def after_stage(self, i: int, x: Tensor) -> Tensor:
        return x + self.prompts[i](x) if self.acts_after_stage(i) else x

    def init_weights(self) -> None:
        """Leave the blocks as they were built: PyTorch's initial values, or those of ``PromptBlock``."""
