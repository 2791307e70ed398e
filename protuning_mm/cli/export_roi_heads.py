"""What mmdet's RoI heads compute, by operators and lengths that a trace keeps and other runtimes have."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d


def pool_rois(extractor: Any, feats: Sequence[Tensor], rois: Tensor, roi_scale_factor: float | None = None) -> Tensor:
    """Pool each RoI from its level of the feature pyramid, as mmdet's ``SingleRoIExtractor``.

    Levels without RoIs are pooled, too, since other images may have RoIs on them.

    Args:
        extractor (nn.Module): The ``SingleRoIExtractor``.
        feats (Sequence[Tensor]): (1, C, H_i, W_i) each.
        rois (Tensor): (M, 5), index of the image and corners.
        roi_scale_factor (float, optional): Factor of the RoIs' sides.

    Returns:
        Tensor: (M, C, h, w).
    """
    if len(feats) == 1:
        return extractor.roi_layers[0](feats[0], rois)
    levels = extractor.map_roi_levels(rois, len(feats))
    if roi_scale_factor is not None:
        rois = extractor.roi_rescale(rois, roi_scale_factor)
    rows = [(levels == level).nonzero()[:, 0] for level in range(len(feats))]
    pooled = [layer(feat, rois[index]) for layer, feat, index in zip(extractor.roi_layers, feats, rows)]
    return torch.cat(pooled)[torch.cat(rows).argsort()]


def align_rois(layer: Any, feature: Tensor, rois: Tensor) -> Tensor:
    """Pool RoIs as mmcv's ``RoIAlign``, by torchvision's operator, which ONNX has, too."""
    from torchvision.ops import roi_align

    return roi_align(feature, rois, layer.output_size, layer.spatial_scale, layer.sampling_ratio, layer.aligned)


def average(features: Tensor, size: Sequence[Any]) -> Tensor:
    """Pool features to a size, which a trace keeps as a constant, because ONNX's operator needs one."""
    return adaptive_avg_pool2d(features, (int(size[0]), int(size[1])))


def count(items: Any) -> Any:
    """Return a length, which a trace keeps as a variable if it is that of a tensor."""
    return items.shape[0] if isinstance(items, Tensor) else len(items)
