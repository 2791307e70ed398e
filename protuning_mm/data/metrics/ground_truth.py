"""The ground truth of COCO's evaluation, made whole: pycocotools needs ``iscrowd``, and ids that are not 0."""

from functools import wraps
from typing import Any


def patch_coco_metrics(scope: str) -> None:
    """Make mmdet's COCO metrics complete the annotations that they have read, in their own copy.

    Many labelling tools write no ``iscrowd``, for which pycocotools has a KeyError, after an epoch; and to pycocotools
    an annotation id of 0 means "unmatched", so that a perfect detection of that object counts as missed. Data sets
    and files stay as they are.

    Args:
        scope (str): The config's default scope; other hosts than mmdet do not use pycocotools.
    """
    if scope != 'mmdet':
        return
    from mmdet.evaluation.metrics import CocoMetric, CocoPanopticMetric, DODCocoMetric

    for metric in (CocoMetric, CocoPanopticMetric, DODCocoMetric):
        _complete_after_init(metric)


def _complete_after_init(metric: Any) -> None:
    init = metric.__init__
    if hasattr(init, '__wrapped__'):
        return

    @wraps(init)
    def read_and_complete(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if self._coco_api is not None:  # None: mmdet writes the annotations itself, whole
            _complete(self._coco_api)

    metric.__init__ = read_and_complete


def _complete(coco: Any) -> None:
    annotations = coco.dataset.get('annotations', [])
    for annotation in annotations:
        for entry in annotation.get('segments_info', [annotation]):  # panoptic ones have several
            if entry.get('iscrowd') is None:
                entry['iscrowd'] = 0
    # a panoptic segment's id is the value of its pixels
    ids = [annotation['id'] for annotation in annotations if 'segments_info' not in annotation]
    if not all(isinstance(each, int) and each > 0 for each in ids):
        for number, annotation in enumerate(annotations, start=1):
            annotation['id'] = number
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
