"""The parts of a host's model that can be exported, as modules from one tensor to a tuple of tensors."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class ExportError(RuntimeError):
    """A model cannot be exported, or not in the requested way."""


class _Part(nn.Module):
    """A part of a model: (N, 3, H, W) to a tuple of tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model


class _Features(_Part):
    """The features of a backbone: (N, C_i, H_i, W_i) each."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outs = self.model(x)
        return (outs,) if isinstance(outs, Tensor) else tuple(outs)


class _Segmentation(_Part):
    """The logits of a segmentor at the input's size, as in whole-image inference: (N, classes, H, W)."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        logits, align = self.model._forward(x), self.model.align_corners
        return (F.interpolate(logits, size=x.shape[2:], mode='bilinear', align_corners=align),)


class _Classification(_Part):
    """The logits of a classifier: (N, classes)."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.model.head(self.model.extract_feat(x)),)


class _Normalized(nn.Module):
    """Normalizes BGR images with values of 0 to 255 as the host's data preprocessor does, and runs a part on them."""

    mean: Any
    std: Any

    def __init__(self, part: nn.Module, preprocessor: Any) -> None:
        super().__init__()
        self.part = part
        # the names of this setting in mmengine and mmdet, in mmseg, and in mmpretrain
        names = ('_channel_conversion', 'channel_conversion', 'to_rgb')
        self.reverse_channels = any(bool(getattr(preprocessor, name, False)) for name in names)
        enabled = getattr(preprocessor, '_enable_normalize', False)
        self.register_buffer('mean', preprocessor.mean if enabled else None)
        self.register_buffer('std', preprocessor.std if enabled else None)

    def forward(self, x: Tensor) -> Any:
        x = x.flip(1) if self.reverse_channels else x
        return self.part(x if self.mean is None else (x - self.mean) / self.std)


def select_part(model: nn.Module, part: str, preprocessing: bool = False, whole: nn.Module | None = None) -> nn.Module:
    """Return the part of a model to export, as a module from one tensor to a tuple of tensors.

    Args:
        model (nn.Module): A host's model with a ``backbone``.
        part (str): ``model`` or ``backbone``.
        preprocessing (bool): Whether to normalize the input first. Defaults to False.
        whole (nn.Module, optional): What ``model`` means. Defaults to None: the logits of a segmentor or classifier.

    Raises:
        ExportError: ``part`` is ``model``, and the model is not a segmentor or classifier.
    """
    module: nn.Module
    if part == 'backbone':
        module = _Features(model.get_submodule('backbone'))
    elif whole is not None:
        module = whole
    elif hasattr(model, 'decode_head'):
        module = _Segmentation(model)
    elif hasattr(model, 'head') and hasattr(model, 'extract_feat') and not hasattr(model, 'rpn_head'):
        module = _Classification(model)
    else:
        raise ExportError(
            f'{type(model).__name__} cannot be exported as a whole: its heads or queries select '
            'objects at run time, in Python and image by image, which no exporter supports. Export its '
            'backbone (--part backbone), or deploy it with mmdeploy, which rewrites these parts'
        )
    module = _Normalized(module, model.data_preprocessor) if preprocessing else module
    return module.eval()
