"""The image as the model takes it, to look at, and where the places of a stage's map lie on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from protuning_lab.pictures.canvas import PictureError
from protuning_mm.backbones import TunedBackbone
from protuning_mm.data import DataError
from protuning_mm.data.truncated_images import is_truncated
from protuning_mm.multitask.hosts import TestPipeline
from protuning_mm.stages import PrefixedTokens


@dataclass(frozen=True)
class ModelInput:
    """One image, resized, padded and normalised as its config says.

    Args:
        tensor (Tensor): (1, 3, H, W), what the backbone is called with.
        pixels (ndarray): (H, W, 3), RGB from 0 to 255: the same before normalisation.
        shown (tuple[int, int]): Height and width of the image in it; right of and below that it is padding.
    """

    tensor: Tensor
    pixels: np.ndarray[Any, Any]
    shown: tuple[int, int]


def read_input(model: Any, pipeline: TestPipeline, path: str) -> ModelInput:
    """Read an image through a config's test pipeline and its model's data preprocessor.

    Raises:
        DataError: it cannot be read.
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
    """Undo the hosts' normalisation and order of channels."""
    image = tensor[0].detach().float().cpu()
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = (torch.as_tensor(getattr(preprocessor, key)).float().cpu() for key in ('mean', 'std'))
        image = image * std.reshape(-1, 1, 1) + mean.reshape(-1, 1, 1)
    # images are read as BGR; mmpretrain's classifiers call the conversion by another name
    if not (getattr(preprocessor, '_channel_conversion', False) or getattr(preprocessor, 'to_rgb', False)):
        image = image.flip(0)
    return image.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def strides(backbone: TunedBackbone, size: tuple[int, int], maps: Sequence[tuple[int, int]]) -> list[tuple[float, ...]]:
    """How many pixels of the input a place of each map is high and wide.

    A map of ⌈H/s⌉ places reaches beyond an image whose height s does not divide, so its size alone does not tell s.
    Patches say theirs; elsewhere s is a power of two, and from stage to stage it stays or doubles.

    Args:
        backbone (TunedBackbone): What made the maps.
        size (tuple[int, int]): Height and width of the input.
        maps (Sequence[tuple[int, int]]): Heights and widths of maps of its stages, in order.
    """
    layout = backbone.structure.layout
    if isinstance(layout, PrefixedTokens):
        for part in backbone.plain.get_submodule(layout.embedding).modules():
            if isinstance(part, nn.Conv2d):
                return [tuple(float(step) for step in part.stride)] * len(maps)
    found: list[tuple[float, ...]] = []
    length, cells, stride = max(size), max(size), 1
    for height, width in maps:
        here = max(height, width)
        stride *= 2 ** round(math.log2(cells / here))
        cells = here
        # where rounding cannot explain the map it is stretched over the input
        fits = abs(length / stride - here) < 1
        found.append((stride, stride) if fits else (size[0] / height, size[1] / width))
    return found
