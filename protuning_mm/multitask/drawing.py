"""A picture of all tasks' results for one image, with one panel for each task."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from protuning_mm.multitask.task import Task

Picture = np.ndarray[Any, Any]

_WIDTH = 640  # minimum width of a panel
_BAR = 40  # height of a title
_GAP = 8  # between panels


def draw_tasks(
    image: Picture, results: Mapping[str, Any], tasks: Mapping[str, Task], score_thr: float = 0.3
) -> Picture:
    """Draw the image and every task's result side by side.

    Args:
        image (ndarray): (H, W, 3), BGR.
        results (Mapping): Task -> its data sample for this image.
        tasks (Mapping): The tasks by name.
        score_thr (float): Lowest score of a box to draw. Defaults to 0.3.

    Returns:
        ndarray: (H', W', 3), BGR.
    """
    panels = [_titled('image', image)]
    for name, sample in results.items():
        task = tasks[name]
        panels.append(
            _titled(f'{name}: {_summary(task, sample, score_thr)}', _DRAWERS[task.kind](image, task, sample, score_thr))
        )
    columns = min(len(panels), max(2, math.ceil(math.sqrt(len(panels)))))
    return _grid(panels, columns)


def _enlarged(picture: Picture) -> Picture:
    """Enlarge a picture to the width that a title needs."""
    scale = max(1.0, _WIDTH / picture.shape[1])
    return cv2.resize(picture, (round(picture.shape[1] * scale), round(picture.shape[0] * scale)))


def _titled(title: str, picture: Picture) -> Picture:
    panel = cv2.copyMakeBorder(_enlarged(picture), _BAR, 0, 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    width = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, 0.7, 1)[0][0]
    scale = min(0.7, max(0.3, 0.7 * (panel.shape[1] - 16) / width))
    cv2.putText(panel, title, (8, _BAR - 12), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return panel


def _grid(panels: Sequence[Picture], columns: int) -> Picture:
    height, width = panels[0].shape[:2]
    rows = math.ceil(len(panels) / columns)
    page = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for i, panel in enumerate(panels):
        y, x = i // columns * (height + _GAP), i % columns * (width + _GAP)
        page[y : y + height, x : x + width] = panel
    return page


def _summary(task: Task, sample: Any, score_thr: float) -> str:
    if task.kind == 'mmpretrain':
        return ', '.join(f'{task.class_name(i)} {score:.2f}' for i, score in _best(sample)[:1])
    if task.kind == 'mmdet':
        found = sample.pred_instances
        what = 'instances' if 'masks' in found else 'boxes'
        return f'{int((found.scores >= score_thr).sum())} {what} with a score of at least {score_thr}'
    labels = sample.pred_sem_seg.data.unique().tolist()
    return ', '.join(task.class_name(i) for i in labels)


def _best(sample: Any) -> list[tuple[int, float]]:
    scores = sample.pred_score.detach().cpu().tolist()
    return sorted(enumerate(scores), key=lambda item: -item[1])


def _draw_detections(image: Picture, task: Task, sample: Any, score_thr: float) -> Picture:
    from mmdet.visualization import DetLocalVisualizer

    large, sample = _enlarged(image), sample.clone().cpu()
    found = sample.pred_instances
    found.bboxes = found.bboxes * (large.shape[1] / image.shape[1])
    if 'masks' in found:  # enlarged like the picture, so that outlines and labels are sharp
        size = (large.shape[1], large.shape[0])
        masks = [
            cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for mask in found.masks.numpy()
        ]
        found.masks = np.array(masks, bool).reshape(-1, *large.shape[:2])
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = task.meta
    visualizer.add_datasample('', large[..., ::-1], sample, draw_gt=False, pred_score_thr=score_thr)
    return np.ascontiguousarray(visualizer.get_image()[..., ::-1])


def _draw_segmentation(image: Picture, task: Task, sample: Any, score_thr: float) -> Picture:
    from mmseg.visualization import SegLocalVisualizer

    visualizer = SegLocalVisualizer(alpha=0.5)
    number = int(sample.seg_logits.data.shape[0]) if 'seg_logits' in sample else 1 + int(sample.pred_sem_seg.data.max())
    classes = task.meta.get('classes') or [f'class {i}' for i in range(max(number, 2))]
    palette = task.meta.get('palette') or _palette(len(classes))
    visualizer.dataset_meta = dict(classes=classes, palette=palette)
    rgb = np.ascontiguousarray(image[..., ::-1])
    visualizer.add_datasample('', rgb, sample.clone().cpu(), draw_gt=False, with_labels=False)
    picture = _enlarged(np.ascontiguousarray(visualizer.get_image()[..., ::-1]))
    labels = sample.pred_sem_seg.data.unique().tolist()
    return _legend(picture, [(task.class_name(i), palette[i]) for i in labels if i < len(palette)])


def _draw_class(image: Picture, task: Task, sample: Any, score_thr: float) -> Picture:
    entries = [(f'{task.class_name(i)} {score:.2f}', (0, 0, 0)) for i, score in _best(sample)[:5]]
    return _legend(_enlarged(image), entries)


def _legend(picture: Picture, entries: Sequence[tuple[str, Sequence[int]]]) -> Picture:
    """Write lines of text on white into the upper left corner, each after a square of its color (RGB)."""
    picture = picture.copy()
    entries = list(entries)[: max(1, (picture.shape[0] - 12) // 24)]
    if not entries:
        return picture
    width = 44 + max(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)[0][0] for text, _ in entries)
    picture[6 : 12 + 24 * len(entries), 6 : 6 + width] = 255
    for i, (text, color) in enumerate(entries):
        y = 14 + 24 * i
        cv2.rectangle(picture, (14, y), (28, y + 14), [int(c) for c in reversed(color)], cv2.FILLED)
        cv2.putText(picture, text, (36, y + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def _palette(number: int) -> list[list[int]]:
    """Return distinct colors (RGB), the same in every call."""
    hues = np.array([[[180 * i // max(number, 1), 200, 220]] for i in range(number)], np.uint8)
    return cv2.cvtColor(hues, cv2.COLOR_HSV2RGB)[:, 0].tolist()


_DRAWERS = {'mmdet': _draw_detections, 'mmseg': _draw_segmentation, 'mmpretrain': _draw_class}
