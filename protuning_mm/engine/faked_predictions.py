"""Fake predictions in the data samples that the hosts' models pass to an evaluator."""

from typing import Any

import torch
from mmengine.structures import InstanceData, PixelData
from torch import nn

_OBJECTS = ((0.1, 0.1, 0.6, 0.6), (0.5, 0.5, 0.95, 0.9))  # x1, y1, x2, y2 relative to the image size


def fake_predictions(sample: Any, num_classes: int, with_masks: bool) -> bool:
    """Add predictions of the first and the last class to a data sample.

    Args:
        sample: A data sample of mmdet, mmseg or mmpretrain; changed in place.
        num_classes (int): Number of classes.
        with_masks (bool): Whether a detector's predicted objects get masks.

    Returns:
        bool: False if the data sample is of another type, and nothing was added.
    """
    fake = _FAKES.get(f'{type(sample).__module__.split(".")[0]}.{type(sample).__name__}')
    if fake is None:
        return False
    fake(sample, num_classes, with_masks)
    return True


def predicts_masks(model: nn.Module) -> bool:
    """Return whether a detector predicts instance masks, judging by the names of its modules."""
    return any('mask' in name.rsplit('.', 1)[-1] for name, _ in model.named_modules())


def _detection(sample: Any, num_classes: int, with_masks: bool) -> None:
    from mmdet.evaluation.functional import INSTANCE_OFFSET

    h, w = sample.ori_shape[:2]
    boxes = torch.tensor(_OBJECTS) * torch.tensor([w, h, w, h])
    found = dict(bboxes=boxes, scores=torch.tensor([0.9, 0.8]), labels=torch.tensor([0, num_classes - 1]))
    if with_masks:
        masks = torch.zeros(len(boxes), h, w, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist()):
            mask[y1 : y2 + 1, x1 : x2 + 1] = True
        found['masks'] = masks
    sample.pred_instances = InstanceData(**found)
    labels = _halves((1, h, w), 0, num_classes - 1)
    sample.pred_sem_seg = PixelData(sem_seg=labels)
    sample.pred_panoptic_seg = PixelData(sem_seg=labels + INSTANCE_OFFSET)


def _segmentation(sample: Any, num_classes: int, with_masks: bool) -> None:
    ground_truth = sample.get('gt_sem_seg')
    shape = (1, *sample.ori_shape[:2]) if ground_truth is None else tuple(ground_truth.data.shape)
    sample.pred_sem_seg = PixelData(data=_halves(shape, 0, num_classes - 1))


def _classification(sample: Any, num_classes: int, with_masks: bool) -> None:
    scores = torch.linspace(1, 2, num_classes).softmax(0)
    sample.set_pred_score(scores).set_pred_label(scores.argmax(0, keepdim=True))


def _halves(shape: tuple[int, ...], left: int, right: int) -> torch.Tensor:
    labels = torch.full(shape, left)
    labels[..., shape[-1] // 2 :] = right
    return labels


_FAKES = {
    'mmdet.DetDataSample': _detection,
    'mmseg.SegDataSample': _segmentation,
    'mmpretrain.DataSample': _classification,
}
