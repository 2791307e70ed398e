"""Export of a one-stage detector: its boxes in one image, how they are traced, and how they are compared."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from math import isnan
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.cli.export_parts import ExportError
from protuning_mm.cli.export_selection import choose, suppress
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

    outputs: tuple[str, ...] = ('boxes', 'scores', 'labels')
    dense_head, cfg_name = 'bbox_head', 'test_cfg'
    least_opset = 11  # of NonMaxSuppression as torchvision's operator is exported

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model
        head: Any = model.get_submodule(self.dense_head)
        self.cfg = head.test_cfg
        require_plain_suppression(self.cfg, self.cfg_name)
        self.least_score = float(self.cfg.get('score_thr', 0.0))
        self.least_side = float(self.cfg.get('min_bbox_size', -1))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.model.extract_feat(x)
        (found,) = self.model.bbox_head.predict(features, [describe_whole_image(x)], rescale=False)
        kept = found.scores >= 0  # all but what a traced selection adds
        return found.bboxes[kept], found.scores[kept], found.labels[kept]

    @contextmanager
    def traceable(self) -> Iterator[None]:
        """Select boxes by operators that a trace keeps, until the block ends."""
        with self.traceable_dense_head(), ignore_thresholds(self.cfg):
            yield

    def traceable_dense_head(self) -> AbstractContextManager[None]:
        """Return the context in which the dense head selects boxes by operators that a trace keeps."""
        large = partial(suppress, least_side=self.least_side)
        return use_exportable_selection(
            partial(choose, least=self.least_score), large, partial(large, least_score=self.least_score)
        )


def is_one_stage(model: nn.Module) -> bool:
    """Return whether a model is a one-stage detector of mmdet, whose head predicts boxes from features alone."""
    names = {kind.__name__ for kind in type(model).__mro__}
    other = any(hasattr(model, part) for part in ('roi_head', 'mask_head', 'panoptic_head'))
    return 'SingleStageDetector' in names and not other


def trace_detector(module: nn.Module, image: Tensor) -> Any:
    """Trace a detector, such that the traced module selects boxes in any image of this size.

    Args:
        module (nn.Module): A :class:`Detection`, or a module around it.
        image (Tensor): (1, 3, H, W), an image.
    """
    with find_detection(module).traceable():
        return torch.jit.trace(module, (image,), check_trace=False)


def find_detection(module: nn.Module) -> Detection:
    """Return the :class:`Detection` in a module."""
    return next(part for part in module.modules() if isinstance(part, Detection))


def require_plain_suppression(cfg: Any, name: str) -> None:
    """Refuse settings of a head that do not use ordinary non-maximum suppression.

    Raises:
        ExportError: ``cfg.nms.type`` is not ``nms``.
    """
    kind = (cfg.get('nms') or {}).get('type', 'nms')
    if kind != 'nms':
        raise ExportError(f'{name}.nms.type={kind!r} cannot be exported: set it to nms')


@contextmanager
def ignore_thresholds(*cfgs: Any) -> Iterator[None]:
    """Let heads select boxes of any score and size, until the block ends.

    A trace would leave suppression out if no box of its image were above the thresholds. They apply later instead.
    """
    before = [{key: cfg[key] for key in ('score_thr', 'min_bbox_size') if key in cfg} for cfg in cfgs]
    try:
        for cfg, old in zip(cfgs, before):
            cfg.update({key: 0.0 if key == 'score_thr' else -1 for key in old})
        yield
    finally:
        for cfg, old in zip(cfgs, before):
            cfg.update(old)


def describe_whole_image(x: Tensor) -> Any:
    """Return mmdet's data sample for an image without padding and scaling."""
    from mmdet.structures import DetDataSample

    size = int(x.shape[-2]), int(x.shape[-1])
    whole = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    return DetDataSample(metainfo=whole)


def compare_boxes(expected: Sequence[Tensor], got: Sequence[Tensor], tolerance: float) -> float:
    """Return the largest difference between two sets of boxes, scores, labels and masks, in whatever order.

    Each box and its mask are compared with the nearest box of the same label in the other set and its mask; a
    difference of boxes is relative to the largest coordinate. Left out are boxes whose score lies within the tolerance
    of the lowest one, because rounding decides which of these are selected.

    Args:
        expected (Sequence[Tensor]): Boxes (M, 4), scores (M,), labels (M,) and, if there are any, masks (M, h, w).
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
        boxes, scores, labels, *masks = (part[one[1] > lowest] for part in one)
        apart = (boxes[:, None] - other[0]).abs().amax(-1) / scale
        apart = torch.maximum(apart, (scores[:, None] - other[1]).abs())
        apart = torch.where(labels[:, None] == other[2], apart, torch.ones_like(apart))
        if len(boxes):
            apart, nearest = apart.min(1)
            of_masks = [(mask - others[nearest]).abs().max() for mask, others in zip(masks, other[3:])]
            found = float(torch.stack([apart.max(), *of_masks]).max())
            largest = found if isnan(largest) else max(largest, found)
    return largest
