"""How an exported detector selects boxes: mmdet's ways, by operators that a trace keeps and other runtimes have.

mmdet leaves out steps if no box is above the thresholds. A trace of such an image would lack these steps, so a traced
selection always finds a box. If it finds one only for that reason, the box has a negative score.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

NO_BOX = -1.0  # the score of a box that is below the thresholds


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
        least (float, optional): A threshold in place of ``score_thr``. The best score is then selected in any case, as
            :data:`NO_BOX` if it is not above the threshold.

    Returns:
        tuple: Scores, labels, indices of rows, and the rows of ``results``.
    """
    n, classes = scores.shape
    best, index = scores.flatten().topk(min(topk, n * classes))
    kept = best > (score_thr if least is None else least)
    if least is not None:
        best = torch.where(kept, best, torch.full_like(best, NO_BOX))
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
    least_score: float = 0.0,
    least_side: float = -1,
) -> tuple[Tensor, Tensor]:
    """Non-maximum suppression within each class by torchvision's operator, which ONNX has, too.

    Boxes whose score is not above ``least_score``, or whose width or height is not above ``least_side``, are removed
    first. If no box is left, one is selected as :data:`NO_BOX`.

    Returns:
        tuple: (M, 5) boxes and scores, and the indices of the M boxes; both ordered by score.
    """
    from torchvision.ops import nms

    fits = ((boxes[:, 2:] - boxes[:, :2]) > least_side).all(1) & (scores > least_score)
    scores = torch.where(fits, scores, torch.full_like(scores, NO_BOX))
    rows = (fits | (torch.arange(scores.shape[0]) == scores.argmax())).nonzero()[:, 0]
    apart = boxes[rows]
    if not (class_agnostic or nms_cfg.get('class_agnostic')):
        apart = apart + (idxs[rows].to(boxes) * (apart.max() + 1))[:, None]  # boxes of two classes do not overlap
    kept = rows[nms(apart, scores[rows], float(nms_cfg.get('iou_threshold', nms_cfg.get('iou_thr', 0.5))))]
    return torch.cat((boxes[kept], scores[kept, None]), 1), kept
