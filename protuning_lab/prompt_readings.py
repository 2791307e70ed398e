"""Readings of the paper's prompt block, and which of its published parameter counts each of them fits.

``python -m protuning_lab.prompt_readings`` prints the table of docs/prompt_block.md. The paper does not give all
details of its block. The grouped reading is that of another paper's code (jimmylin0979/PAT, ICCV 2025), which says that
it follows Pro-Tuning's settings.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from protuning_mm.blocks import PromptBlock

# network: (channels of the stages, channels of the head's input, parameters of the network without its head)
NETWORKS = {
    'ResNet-101': ((256, 512, 1024, 2048), 2048, 42_500_160),
    'DeiT-B': ((768,) * 8, 768, 85_798_656),
    'DeiT-S': ((384,) * 8, 384, 21_665_664),
}
CLASSES = 120


class GroupedPromptBlock(nn.Module):
    """Grouped 1x1 conv -> depth-wise conv -> squeeze-excite -> grouped 1x1 conv, times a learned scalar.

    It has the full width, and no norm or activation outside the squeeze-excite.

    Args:
        channels (int): Channels C of the feature map and of the prompt.
        kernel_size (int): Kernel size of the depth-wise convolution. Defaults to 5.
        groups (int): Groups of the 1x1 convolutions. Defaults to 4.
        squeeze (int): Ratio of the squeeze-excite. Defaults to 16.
        norms (bool): Whether a batch norm follows each convolution. Defaults to False.

    Shape:
        - Input: (N, C, H, W)
        - Output: (N, C, H, W)
    """

    def __init__(
        self, channels: int, kernel_size: int = 5, groups: int = 4, squeeze: int = 16, norms: bool = False
    ) -> None:
        super().__init__()
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d if norms else lambda _: nn.Identity()
        self.reduce = nn.Sequential(nn.Conv2d(channels, channels, 1, groups=groups), norm(channels))
        self.depthwise = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels), norm(channels)
        )
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // squeeze, 1),
            nn.ReLU(),
            nn.Conv2d(channels // squeeze, channels, 1),
            nn.Sigmoid(),
        )
        self.expand = nn.Sequential(nn.Conv2d(channels, channels, 1, groups=groups), norm(channels))
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        prompt = self.depthwise(self.reduce(x))
        prompt = self.expand(prompt * self.excite(prompt))
        return self.scale * prompt


READINGS: dict[str, Callable[[int], nn.Module]] = {
    'ours: hidden width 0.32 C, two norms': PromptBlock,
    'grouped, full width, squeeze-excite': GroupedPromptBlock,
    'grouped, with three norms': lambda channels: GroupedPromptBlock(channels, norms=True),
}


def count_trained(reading: Callable[[int], nn.Module], network: str) -> tuple[int, float]:
    """Count what Pro-Tuning trains on a network, with a head of 120 classes.

    Returns:
        tuple[int, float]: Number of trained parameters, and how many times more full fine-tuning trains.
    """
    stages, width, backbone = NETWORKS[network]
    head = width * CLASSES + CLASSES
    with torch.device('meta'):
        blocks = [reading(channels) for channels in stages]
    trained = head + sum(parameter.numel() for block in blocks for parameter in block.parameters())
    return trained, (backbone + head) / trained


def table() -> str:
    """Return the Markdown table of docs/prompt_block.md."""
    lines = ['| reading | ResNet-101 | DeiT-B | DeiT-S |', '|---|---:|---:|---:|']
    lines.append('| **published** | **3.86 M** | **about 27 times fewer** | **about 25 times fewer** |')
    for name, reading in READINGS.items():
        trained = count_trained(reading, 'ResNet-101')[0]
        times = [count_trained(reading, network)[1] for network in ('DeiT-B', 'DeiT-S')]
        lines.append(f'| {name} | {trained / 1e6:.2f} M | {times[0]:.1f} | {times[1]:.1f} |')
    return '\n'.join(lines)


if __name__ == '__main__':
    print(table())
