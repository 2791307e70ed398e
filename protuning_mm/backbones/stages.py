"""How a plain backbone is read: a stem, and an ordered list of stages with known channels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Stages:
    """A backbone read as ``image -> stem -> stage 1 -> … -> stage n``.

    Args:
        stem (Callable): Maps the backbone and an image (N, 3, H, W) to the input of the first stage. It is handed the
            backbone, and closes over none, so that a deep copy runs on its own modules.
        stem_names (tuple[str]): The backbone's children that belong to the stem.
        names (tuple[str]): The backbone's children that are its stages, in order.
        channels (tuple[int]): Channels C_i of each stage's output (N, C_i, H_i, W_i).
    """

    stem: Callable[[nn.Module, Tensor], Tensor]
    stem_names: tuple[str, ...]
    names: tuple[str, ...]
    channels: tuple[int, ...]


def read_resnet(plain: Any) -> Stages:
    """Read a ResNet, ResNetV1c, ResNetV1d or ResNeXt of mmdet, mmseg or mmpretrain."""
    names = tuple(plain.res_layers)
    # mmpretrain keeps the expansion on the network, mmdet and mmseg on the block's class.
    expansion = getattr(plain, 'expansion', None) or plain.block.expansion
    return Stages(
        stem=_resnet_stem,
        stem_names=tuple(name for name, _ in plain.named_children() if name not in names),
        names=names,
        channels=tuple(plain.base_channels * expansion * 2**i for i in range(len(names))),
    )


def _resnet_stem(plain: Any, x: Tensor) -> Tensor:
    x = plain.stem(x) if plain.deep_stem else plain.relu(plain.norm1(plain.conv1(x)))
    return plain.maxpool(x)
