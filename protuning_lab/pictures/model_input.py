"""Reads an image as the model sees it, and computes the strides of stage maps on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from protuning_lab.pictures.figures import PictureError
from protuning_mm.backbones import TunedBackbone
from protuning_mm.data import DataError
from protuning_mm.data.truncated_images import is_truncated
from protuning_mm.multitask.hosts import TestPipeline
from protuning_mm.stages import PrefixedTokens


@dataclass(frozen=True)
class ModelInput:
    """One image, resized, padded and normalised as the config says.

    Args:
        tensor (Tensor): (1, 3, H, W), the input of the backbone.
        pixels (ndarray): (H, W, 3), the same image before normalisation, RGB from 0 to 255.
        shown (tuple[int, int]): Height and width without padding. Padding is on the right and at the bottom.
    """

    tensor: Tensor
    pixels: np.ndarray[Any, Any]
    shown: tuple[int, int]


def read_input(model: Any, pipeline: TestPipeline, path: str) -> ModelInput:
    """Read an image through a config's test pipeline and its model's data preprocessor.

    Raises:
        DataError: the image cannot be read.
        PictureError: the model's input does not have three channels.
    """
    if cv2.imread(path) is None or is_truncated(path):
        raise DataError(f'{path!r} cannot be decoded as an image, or is cut short')
    data = model.data_preprocessor(pipeline(path), False)
    tensor, sample = data['inputs'], data['data_samples'][0]
    if tensor.dim() != 4 or tensor.shape[1] != 3:
        raise PictureError(f'{path!r} becomes a tensor of shape {tuple(tensor.shape)}: it must be (1, 3, H, W)')
    height, width = tensor.shape[2:]
    shown = sample.metainfo.get('img_shape', (height, width))
    return ModelInput(tensor, _pixels(model.data_preprocessor, tensor), (shown[0], shown[1]))


def _pixels(preprocessor: nn.Module, tensor: Tensor) -> np.ndarray[Any, Any]:
    """Undo the normalisation and the channel order of the host library's data preprocessor."""
    image = tensor[0].detach().float().cpu()
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = (torch.as_tensor(getattr(preprocessor, key)).float().cpu() for key in ('mean', 'std'))
        image = image * std.reshape(-1, 1, 1) + mean.reshape(-1, 1, 1)
    # images are read as BGR; mmpretrain's data preprocessors name the conversion to_rgb
    if not (getattr(preprocessor, '_channel_conversion', False) or getattr(preprocessor, 'to_rgb', False)):
        image = image.flip(0)
    return image.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def map_strides(
    backbone: TunedBackbone, size: tuple[int, int], maps: Sequence[tuple[int, int]]
) -> list[tuple[float, ...]]:
    """Return the stride of each map: the height and width in pixels of one of its positions.

    If the stride s does not divide the height H, a map with ⌈H/s⌉ rows extends beyond the image, so s cannot be
    computed from the sizes alone. Transformers define s by their patch embedding. In other networks s is a power of two
    that stays or doubles from stage to stage.

    Args:
        backbone (TunedBackbone): The backbone that computed the maps.
        size (tuple[int, int]): Height and width of the input.
        maps (Sequence[tuple[int, int]]): Height and width of the map of each stage, in order.

    Returns:
        list[tuple[float, float]]: Vertical and horizontal stride of each map, in pixels.
    """
    layout = backbone.structure.layout
    if isinstance(layout, PrefixedTokens):
        for part in backbone.plain.get_submodule(layout.embedding).modules():
            if isinstance(part, nn.Conv2d):
                return [tuple(float(step) for step in part.stride)] * len(maps)
    found: list[tuple[float, ...]] = []
    length, cells, stride = max(size), max(size), 1
    for height, width in maps:
        size_here = max(height, width)
        stride *= 2 ** round(math.log2(cells / size_here))
        cells = size_here
        # if rounding cannot explain the size of the map, stretch it over the input
        fits = abs(length / stride - size_here) < 1
        found.append((stride, stride) if fits else (size[0] / height, size[1] / width))
    return found
