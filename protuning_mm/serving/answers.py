"""Answers: the hosts' data samples as JSON, or drawn into a picture."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from protuning_mm.multitask.drawing import draw_tasks
from protuning_mm.multitask.task import Task
from protuning_mm.serving.errors import RequestError

KINDS = {'mmdet': 'detection', 'mmseg': 'segmentation', 'mmpretrain': 'classification'}
Image = np.ndarray[Any, Any]
Results = Mapping[str, tuple[Task, Sequence[Any]]]  # task's name -> the task, and its data sample for each image


def describe_sample(task: Task, image: Image, sample: Any, score_thr: float, top_k: int) -> dict[str, Any]:
    """Convert a task's result for one image.

    Args:
        task (Task): The task.
        image (ndarray): (H, W, 3).
        sample (DataSample): What the host has predicted.
        score_thr (float): Lowest score of a box.
        top_k (int): Number of classes of a classifier.

    Raises:
        RequestError: the task predicts something that has no form here, such as a panoptic map (501).
    """
    size = [int(image.shape[0]), int(image.shape[1])]
    return dict(size=size, **_DESCRIBE[task.kind](task, sample, score_thr, top_k))


def draw(images: Sequence[Image], results: Results, score_thr: float) -> bytes:
    """Draw the results for one image, a panel for each task.

    Returns:
        bytes: A PNG file.

    Raises:
        RequestError: there are several images (422), or a task predicts what cannot be drawn (501).
    """
    if len(images) != 1:
        raise RequestError(422, f'{len(images)} images, but a drawn picture (Accept: image/png) shows one')
    for task, samples in results.values():
        _expect(task, samples[0], _FIELDS[task.kind])
    first = {name: samples[0] for name, (_, samples) in results.items()}
    picture = draw_tasks(images[0], first, {name: task for name, (task, _) in results.items()}, score_thr)
    return cv2.imencode('.png', picture)[1].tobytes()


def to_rle(mask: Any) -> dict[str, Any]:
    """Encode a mask (H, W) as COCO's compressed run lengths, with the counts as text."""
    from pycocotools import mask as coco

    encoded = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return dict(size=[int(n) for n in encoded['size']], counts=encoded['counts'].decode())


def _detections(task: Task, sample: Any, score_thr: float, top_k: int) -> dict[str, Any]:
    found = _expect(task, sample, 'pred_instances').cpu()
    kept = found[found.scores >= score_thr]
    masks = kept.masks if 'masks' in kept else [None] * len(kept)
    return dict(
        objects=[
            dict(
                label=int(label),
                name=task.class_name(int(label)),
                score=float(score),
                box=[float(each) for each in box],
                **({} if mask is None else dict(mask=to_rle(np.asarray(mask)))),
            )
            for label, score, box, mask in zip(kept.labels, kept.scores, kept.bboxes, masks)
        ]
    )


def _segments(task: Task, sample: Any, score_thr: float, top_k: int) -> dict[str, Any]:
    labels = _expect(task, sample, 'pred_sem_seg').data[0].cpu().numpy()
    return dict(
        classes=[
            dict(
                label=int(label),
                name=task.class_name(int(label)),
                pixels=int(pixels),
                mask=to_rle(labels == label),
            )
            for label, pixels in zip(*np.unique(labels, return_counts=True))
        ]
    )


def _classes(task: Task, sample: Any, score_thr: float, top_k: int) -> dict[str, Any]:
    scores = _expect(task, sample, 'pred_score').cpu()
    best = scores.argsort(descending=True)[:top_k]
    return dict(
        classes=[dict(label=int(i), name=task.class_name(int(i)), score=float(scores[i])) for i in best],
    )


def _expect(task: Task, sample: Any, field: str) -> Any:
    found = sample.get(field)
    if found is None:
        raise RequestError(501, f'task {task.name!r} predicts no {field}: this server cannot answer for it')
    return found


_FIELDS = {'mmdet': 'pred_instances', 'mmseg': 'pred_sem_seg', 'mmpretrain': 'pred_score'}
_DESCRIBE: dict[str, Callable[[Task, Any, float, int], dict[str, Any]]] = {
    'mmdet': _detections,
    'mmseg': _segments,
    'mmpretrain': _classes,
}
