"""Export of a two-stage detector: proposals, the boxes of the RoI head, and its masks before they are pasted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.cli.export_detector import (
    Detection,
    describe_whole_image,
    ignore_thresholds,
    require_plain_suppression,
)
from protuning_mm.cli.export_parts import ExportError
from protuning_mm.cli.export_roi_heads import align_rois, average, count, pool_rois
from protuning_mm.cli.export_selection import suppress
from protuning_mm.patches import use_exportable_roi_heads

# the heads whose predictions can be exported, also where others inherit them
HEADS = ('BaseRoIHead', 'StandardRoIHead', 'CascadeRoIHead', 'HybridTaskCascadeRoIHead')


class TwoStageDetection(Detection):
    """The boxes of a two-stage detector in one image, and their masks if the detector has a mask head.

    Args:
        model (nn.Module): A ``TwoStageDetector`` of mmdet, in eval mode.

    Shape:
        - Input: (1, 3, H, W)
        - Output: boxes (M, 4), corners in pixels of the input; scores (M,); labels (M,); masks (M, h, w), the
          probabilities on a grid over each box

    Raises:
        ExportError: the RoI head predicts otherwise than those of Faster, Mask and Cascade R-CNN and HTC, pools
            otherwise than by RoIAlign, or a head does not use ordinary non-maximum suppression.
    """

    dense_head, cfg_name, least_opset = 'rpn_head', 'test_cfg.rpn', 16

    def __init__(self, model: nn.Module) -> None:
        head: Any = model.roi_head
        require_known_roi_head(head)
        super().__init__(model)
        require_plain_suppression(head.test_cfg, 'test_cfg.rcnn')
        if head.with_mask:
            self.outputs = (*self.outputs, 'masks')
        if 'RPNHead' in {kind.__name__ for kind in type(model.rpn_head).__mro__}:
            self.least_score = 0.0  # an RPNHead has no threshold

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        head, features, sample = self.model.roi_head, self.model.extract_feat(x), describe_whole_image(x)
        (proposals,) = self.model.rpn_head.predict(features, [sample], rescale=False)
        semantic = {}
        if getattr(head, 'with_semantic', False):
            semantic = dict(semantic_feat=head.semantic_head(features)[1])
        (found,) = head.predict_bbox(features, [sample.metainfo], [proposals], head.test_cfg, **semantic)
        outputs = [found.bboxes, found.scores, found.labels]
        if head.with_mask:
            outputs.append(predict_masks(head, features, found.bboxes, found.labels, **semantic))
        # all but what a traced selection adds, if there is a proposal
        kept = (found.scores >= 0) & (proposals.scores >= 0).any()
        return tuple(output[kept] for output in outputs)

    @contextmanager
    def traceable(self) -> Iterator[None]:
        cfg = self.model.roi_head.test_cfg
        above = partial(suppress, least_score=float(cfg.score_thr))
        with (
            self.traceable_dense_head(),
            use_exportable_roi_heads(above, pool_rois, align_rois, average, count),
            ignore_thresholds(self.cfg, cfg),
        ):
            yield


def is_two_stage(model: nn.Module) -> bool:
    """Return whether a model is a two-stage detector of mmdet, which predicts by its ``rpn_head`` and ``roi_head``."""
    return hasattr(model, 'rpn_head') and _owner(model, 'predict') == 'TwoStageDetector'


def require_known_roi_head(head: Any) -> None:
    """Refuse RoI heads that cannot be exported.

    Raises:
        ExportError: the head has a way to predict of its own, or pools otherwise than by RoIAlign.
    """
    for method in ('predict', 'predict_bbox', *(['predict_mask'] if head.with_mask else [])):
        if _owner(head, method) not in HEADS:
            raise ExportError(
                f'{_owner(head, method)}.{method} cannot be exported, only that of {", ".join(HEADS)}. Export the '
                'backbone (--part backbone), or deploy the model with mmdeploy'
            )
    for layer in (layer for module in head.modules() for layer in getattr(module, 'roi_layers', [])):
        if type(layer).__name__ != 'RoIAlign' or layer.pool_mode != 'avg':
            raise ExportError(f'{layer} cannot be exported: set roi_layer.type to RoIAlign and its pool_mode to avg')


def _owner(module: nn.Module, method: str) -> str:
    """Return the name of the class that defines a method, or an empty string."""
    return next((kind.__name__ for kind in type(module).__mro__ if method in vars(kind)), '')


def predict_masks(head: Any, features: Sequence[Tensor], boxes: Tensor, labels: Tensor, **semantic: Tensor) -> Tensor:
    """Predict the masks of boxes as mmdet's RoI heads do before they paste them into the image.

    Args:
        head (nn.Module): The RoI head.
        features (Sequence[Tensor]): (1, C, H_i, W_i) each.
        boxes (Tensor): (M, 4).
        labels (Tensor): (M,).
        **semantic (Tensor): ``semantic_feat``, the features of HTC's semantic head.

    Returns:
        Tensor: Probabilities, (M, h, w).
    """
    rois = torch.cat((boxes.new_zeros(boxes.shape[0], 1), boxes), 1)
    kind = _owner(head, 'predict_mask')
    if kind == 'StandardRoIHead':
        logits = [head._mask_forward(features, rois)['mask_preds']]
    elif kind == 'CascadeRoIHead':
        logits = [head._mask_forward(stage, features, rois)['mask_preds'] for stage in range(head.num_stages)]
    else:  # HTC runs all stages in one call
        logits = head._mask_forward(-1, features, rois, training=False, **semantic)['mask_preds']
    masks = torch.stack([each.sigmoid() for each in logits]).mean(0)  # (M, classes, h, w)
    class_agnostic = masks.shape[1] == 1
    return masks[:, 0] if class_agnostic else masks[torch.arange(labels.shape[0]), labels]
