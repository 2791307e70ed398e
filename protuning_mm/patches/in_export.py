"""What is replaced while a detector is exported."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from protuning_mm.patches.replacing import replaced


@contextmanager
def use_exportable_selection(
    choose: Callable[..., Any], suppress: Callable[..., Any], select: Callable[..., Any]
) -> Iterator[None]:
    """Replace the functions with which mmdet's dense heads select boxes, while a detector is exported.

    Replaced: ``filter_scores_and_topk`` and ``batched_nms`` in the modules of ``mmdet.models.dense_heads``, until the
    block ends. Why: the first counts the boxes above the threshold in Python, which a trace keeps as a constant, and
    the second calls an operator of mmcv that other runtimes do not have. Without it: a detector cannot be exported.

    Args:
        choose (Callable): In place of ``filter_scores_and_topk``.
        suppress (Callable): In place of ``batched_nms`` in the modules that have the first function.
        select (Callable): In place of ``batched_nms`` in the other modules, with the threshold.
    """
    heads = [module for name, module in sys.modules.items() if name.startswith('mmdet.models.dense_heads.')]
    choosing = [module for module in heads if hasattr(module, 'filter_scores_and_topk')]
    new: list[tuple[Any, str, Any]] = [(module, 'filter_scores_and_topk', choose) for module in choosing]
    for module in (module for module in heads if hasattr(module, 'batched_nms')):
        new.append((module, 'batched_nms', suppress if module in choosing else select))
    with replaced(new):
        yield


@contextmanager
def use_exportable_roi_heads(
    suppress: Callable[..., Any],
    pool: Callable[..., Any],
    align: Callable[..., Any],
    average: Callable[..., Any],
    count: Callable[..., Any],
) -> Iterator[None]:
    """Replace the functions with which mmdet's RoI heads pool features and select boxes, while a detector is exported.

    Replaced, until the block ends: ``batched_nms`` in ``mmdet.models.layers.bbox_nms``, ``forward`` of mmcv's
    ``RoIAlign`` and of mmdet's ``SingleRoIExtractor``, and ``adaptive_avg_pool2d`` in the module of HTC's head. Added:
    ``len`` to the modules of two RoI heads. Why: the first two call operators of mmcv that other runtimes do not have.
    The extractor leaves out levels without RoIs, and the heads split tensors by their lengths, which a trace keeps as
    constants. HTC pools to a size that a trace keeps as a variable, and ONNX needs a constant. Without it: a two-stage
    detector cannot be exported.

    Args:
        suppress (Callable): In place of ``batched_nms``.
        pool (Callable): In place of ``SingleRoIExtractor.forward``.
        align (Callable): In place of ``RoIAlign.forward``.
        average (Callable): In place of ``adaptive_avg_pool2d``.
        count (Callable): In place of ``len``.
    """
    from mmcv.ops import RoIAlign
    from mmdet.models.layers import bbox_nms
    from mmdet.models.roi_heads import SingleRoIExtractor, cascade_roi_head, htc_roi_head, standard_roi_head

    new = [(bbox_nms, 'batched_nms', suppress), (SingleRoIExtractor, 'forward', pool), (RoIAlign, 'forward', align)]
    new += [(htc_roi_head, 'adaptive_avg_pool2d', average)]
    with replaced([*new, (standard_roi_head, 'len', count), (cascade_roi_head, 'len', count)]):
        yield
