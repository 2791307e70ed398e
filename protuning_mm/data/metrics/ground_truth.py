"""Ground truth for COCO's evaluation: pycocotools needs ``iscrowd``, and misreads an annotation id of 0.

:func:`protuning_mm.patches.patch_coco_metrics` installs :func:`complete_ground_truth`.
"""

from collections.abc import Callable
from typing import Any


def complete_ground_truth(init: Callable[..., None], metric: Any, /, *args: Any, **kwargs: Any) -> None:
    """Call ``__init__`` of a COCO metric of mmdet; complete the annotations in the metric's own copy.

    A missing ``iscrowd`` becomes 0. Ids that are not positive integers are replaced by ids from 1. Data sets and files
    do not change.
    """
    init(metric, *args, **kwargs)
    if metric._coco_api is not None:  # None: mmdet writes complete annotations itself
        _complete_annotations(metric._coco_api)


def _complete_annotations(coco: Any) -> None:
    annotations = coco.dataset.get('annotations', [])
    for annotation in annotations:
        for entry in annotation.get('segments_info', [annotation]):  # a panoptic annotation has several
            if entry.get('iscrowd') is None:
                entry['iscrowd'] = 0
    # the id of a panoptic segment is the value of its pixels, and stays
    ids = [annotation['id'] for annotation in annotations if 'segments_info' not in annotation]
    if not all(isinstance(each, int) and each > 0 for each in ids):
        for number, annotation in enumerate(annotations, start=1):
            annotation['id'] = number
        coco.createIndex()
        coco.img_ann_map, coco.cat_img_map = coco.imgToAnns, coco.catToImgs
