"""Export of a one-stage detector with the selection of its boxes: thresholds, the best of each level, and NMS."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import isnan
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.cli.export_parts import ExportError
from protuning_mm.patches import use_exportable_selection


class Detection(nn.Module):
    """The boxes of a one-stage detector in one image.

    Args:
        model (nn.Module): A ``SingleStageDetector`` of mmdet, in eval mode.

    Shape:
        - Input: (1, 3, H, W)
        - Output: boxes (M, 4), corners in pixels of the input; scores (M,); labels (M,)

    Raises:
        ExportError: the detector does not use ordinary non-maximum suppression.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        head: Any = model.bbox_head
        kind = (head.test_cfg.get('nms') or {}).get('type', 'nms')
        if kind != 'nms':
            raise ExportError(f'test_cfg.nms.type={kind!r} cannot be exported: set it to nms')
        self.least_score = float(head.test_cfg.get('score_thr', 0.0))
        self.least_side = float(head.test_cfg.get('min_bbox_size', -1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        from mmdet.structures import DetDataSample

        size = int(x.shape[-2]), int(x.shape[-1])
        whole = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
        features = self.model.extract_feat(x)
        (found,) = self.model.bbox_head.predict(features, [DetDataSample(metainfo=whole)], rescale=False)
        # a traced selection always finds some boxes; here are those that mmdet's would have found
        kept = found.scores > self.least_score
        return found.bboxes[kept], found.scores[kept], found.labels[kept]


def is_one_stage(model: nn.Module) -> bool:
    """Return whether a model is a one-stage detector of mmdet, whose head predicts boxes from features alone."""
    names = {kind.__name__ for kind in type(model).__mro__}
    return 'SingleStageDetector' in names and not hasattr(model, 'roi_head') and not hasattr(model, 'mask_head')


def trace_detector(module: nn.Module, image: Tensor) -> Any:
    """Trace a detector, such that the traced module selects boxes in any image of this size.

    Args:
        module (nn.Module): A :class:`Detection`, or a module around it.
        image (Tensor): (1, 3, H, W), an image.
    """
    detection = next(part for part in module.modules() if isinstance(part, Detection))
    cfg = detection.model.bbox_head.test_cfg
    before = {key: cfg[key] for key in ('score_thr', 'min_bbox_size') if key in cfg}
    try:
        # thresholds apply after suppression, which a trace would leave out if no box were above them in this image
        cfg.update({key: 0.0 if key == 'score_thr' else -1 for key in before})
        narrow = partial(suppress, least_side=detection.least_side)
        with use_exportable_selection(partial(choose, least=detection.least_score), narrow):
            return torch.jit.trace(module, (image,), check_trace=False)
    finally:
        cfg.update(before)


def choose(
    scores: Tensor, score_thr: float, topk: int, results: Any = None, least: float | None = None
) -> tuple[Any, ...]:
    """Select the best scores above a threshold, as mmdet's ``filter_scores_and_topk``.

    The number of candidates does not depend on the scores; the threshold is applied last.

    Args:
        scores (Tensor): (n, C).
        score_thr (float): The threshold.
        topk (int): The largest number to select.
        results (dict | list | Tensor, optional): What belongs to the n rows.
        least (float, optional): A threshold in place of ``score_thr``. The best score is then selected in any case.

    Returns:
        tuple: Scores, labels, indices of rows, and the rows of ``results``.
    """
    n, classes = scores.shape
    best, index = scores.flatten().topk(min(topk, n * classes))
    kept = best > (score_thr if least is None else least)
    if least is not None:
        kept[0] = True
    best, index = best[kept], index[kept]
    rows, labels = index // classes, index % classes
    if isinstance(results, Mapping):
        results = {key: value[rows] for key, value in results.items()}
    elif isinstance(results, list):
        results = [value[rows] for value in results]
    elif results is not None:
        results = results[rows]
    return best, labels, rows, results


def suppress(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor,
    nms_cfg: Mapping[str, Any],
    class_agnostic: bool = False,
    least_side: float = -1,
) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression within each class by torchvision's operator, which ONNX has, too.

    Boxes whose width or height is not larger than ``least_side`` are removed first.

    Returns:
        tuple: (M, 5) boxes and scores, and the indices of the M boxes; both ordered by score.
    """
    from torchvision.ops import nms

    large = ((boxes[:, 2:] - boxes[:, :2]) > least_side).all(1).nonzero()[:, 0]
    apart = boxes[large]
    if not (class_agnostic or nms_cfg.get('class_agnostic')):
        furthest = torch.cat((boxes, boxes.new_zeros(1, 4))).max()  # there may be no box
        apart = apart + (idxs[large].to(boxes) * (furthest + 1))[:, None]  # boxes of two classes do not overlap
    kept = large[nms(apart, scores[large], float(nms_cfg.get('iou_threshold', nms_cfg.get('iou_thr', 0.5))))]
    return torch.cat((boxes[kept], scores[kept, None]), 1), kept


def compare_boxes(expected: Sequence[Tensor], got: Sequence[Tensor], tolerance: float) -> float:
    """Return the largest difference between two sets of boxes, scores and labels, in whatever order.

    Each box is compared with the nearest one of the same label in the other set; a difference of boxes is relative to
    the largest coordinate. Left out are boxes whose score lies within the tolerance of the lowest one, because rounding
    decides which of these are selected.

    Args:
        expected (Sequence[Tensor]): Boxes (M, 4), scores (M,) and labels (M,).
        got (Sequence[Tensor]): The same, of another number of boxes.
        tolerance (float): Difference from the lowest score up to which boxes are left out.

    Returns:
        float: The difference; 1 or more if there are no boxes of a label in one of the sets, and nan if no box
        was compared.
    """
    if not len(expected[0]) or not len(got[0]):
        return float('nan') if len(expected[0]) == len(got[0]) else 1.0
    lowest = float(min(expected[1].min(), got[1].min())) + tolerance
    scale = expected[0].abs().max().clamp(min=1)
    largest = float('nan')
    for one, other in ((expected, got), (got, expected)):
        boxes, scores, labels = (part[one[1] > lowest] for part in one)
        apart = (boxes[:, None] - other[0]).abs().amax(-1) / scale
        apart = torch.maximum(apart, (scores[:, None] - other[1]).abs())
        apart = torch.where(labels[:, None] == other[2], apart, torch.ones_like(apart))
        if len(boxes):
            found = float(apart.amin(1).max())
            largest = found if isnan(largest) else max(largest, found)
    return largest
