"""What of a host's model an exporter takes: tensors in, tensors out."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class ExportError(RuntimeError):
    """A model, or the way it is to be exported, cannot be."""


class _Features(nn.Module):
    """The backbone's outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = model.backbone

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outs = self.backbone(x)
        return (outs,) if isinstance(outs, Tensor) else tuple(outs)


class _Segmentation(nn.Module):
    """Logits at the input's size, as whole inference makes them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        logits = self.model._forward(x)
        align = self.model.align_corners
        return (F.interpolate(logits, size=x.shape[2:], mode='bilinear', align_corners=align),)


class _Classification(nn.Module):
    """Logits of every class."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.model.head(self.model.extract_feat(x)),)


class _Normalised(nn.Module):
    """From BGR images of 0 to 255, as OpenCV reads them, to what the host's preprocessor hands the model."""

    mean: Any
    std: Any

    def __init__(self, part: nn.Module, preprocessor: Any) -> None:
        super().__init__()
        self.part = part
        # three names for one thing: mmengine's and mmdet's, mmseg's, mmpretrain's
        names = ('_channel_conversion', 'channel_conversion', 'to_rgb')
        self.flips = any(bool(getattr(preprocessor, name, False)) for name in names)
        enabled = getattr(preprocessor, '_enable_normalize', False)
        self.register_buffer('mean', preprocessor.mean if enabled else None)
        self.register_buffer('std', preprocessor.std if enabled else None)

    def forward(self, x: Tensor) -> Any:
        x = x.flip(1) if self.flips else x
        return self.part(x if self.mean is None else (x - self.mean) / self.std)


def exportable(model: nn.Module, part: str, preprocessing: bool = False) -> nn.Module:
    """The part of a model that is exported: a module from one tensor to a tuple of tensors.

    Args:
        model (nn.Module): A host's model with a ``backbone``.
        part (str): ``model`` or ``backbone``.
        preprocessing (bool): Whether normalisation comes before it.

    Raises:
        ExportError: ``part`` is ``model``, and the model is a detector or of another kind.
    """
    made: nn.Module
    if part == 'backbone':
        made = _Features(model)
    elif hasattr(model, 'decode_head'):
        made = _Segmentation(model)
    elif hasattr(model, 'head') and hasattr(model, 'extract_feat') and not hasattr(model, 'rpn_head'):
        made = _Classification(model)
    else:
        raise ExportError(
            f'{type(model).__name__} cannot be exported whole: its proposals, RoI heads and non-maximum suppression '
            "choose boxes while they run, which the hosts' code does in Python, image by image: no exporter follows. "
            'Export its backbone (--part backbone), or deploy it by mmdeploy, which rewrites these parts'
        )
    made = _Normalised(made, model.data_preprocessor) if preprocessing else made
    return made.eval()
