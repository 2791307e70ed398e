"""The patches of a process that trains, tests or predicts."""

from mmengine.fileio import LocalBackend

from protuning_mm.patches.replacing import skippable, wrap
from protuning_mm.weights.atomic import put_atomically, put_text_atomically


@skippable
def patch_file_writing() -> None:
    """Write predictions and results atomically.

    Replaced: ``put`` and ``put_text`` of mmengine's ``LocalBackend``, which open the old file and write into it. A kill
    during the write leaves neither the old nor the new file.

    Upstream: we know no issue.

    Without it: a kill can leave a damaged file of results. Checkpoints are written atomically in any case.
    """
    LocalBackend.put, LocalBackend.put_text = put_atomically, put_text_atomically


@skippable
def patch_empty_data_sets() -> None:
    """Say why a data set has no image.

    Replaced: ``_serialize_data`` of mmengine's ``BaseDataset``, where numpy fails on an empty data set.

    Upstream: open-mmlab/mmdetection#9610.

    Without it: "need at least one array to concatenate".
    """
    from mmengine.dataset import BaseDataset

    from protuning_mm.data.empty_data_sets import refuse_empty_data_sets

    wrap(BaseDataset, '_serialize_data', refuse_empty_data_sets)


@skippable
def patch_image_loading() -> None:
    """Name image files that cannot be decoded, are truncated, or have another size than annotated.

    Replaced: ``transform`` of mmcv's ``LoadImageFromFile``. OpenCV's error names no file, and OpenCV decodes half a
    file to half a picture. The class stays, because inferencers search the pipeline for its name.

    Upstream: open-mmlab/mmcv#2239.

    Without it: errors name no file, and truncated images are trained on.
    """
    from mmcv.transforms import LoadImageFromFile

    from protuning_mm.data.image_loading import name_unreadable_images

    wrap(LoadImageFromFile, 'transform', name_unreadable_images)


@skippable
def patch_transforms() -> None:
    """Name the image on which OpenCV fails in a transform, for example because it is too thin for its resize.

    Replaced: ``__call__`` of mmcv's ``BaseTransform``, so that the transforms of all host libraries are covered, nested
    ones included.

    Upstream: we know no issue.

    Without it: OpenCV's error names neither the file nor its size.
    """
    from mmcv.transforms import BaseTransform

    from protuning_mm.data.transform_errors import name_failing_images

    wrap(BaseTransform, '__call__', name_failing_images)


@skippable
def patch_label_loading(scope: str) -> None:
    """Name label maps and masks that cannot be read or do not fit their image or the classes.

    Replaced in mmseg: ``_load_seg_map`` of ``LoadAnnotations``, which silently takes the low byte of a 16-bit map, and
    ``get_data_info`` of ``BaseSegDataset``, which passes on the number of classes. Replaced in mmdet: ``_load_seg_map``
    and ``_load_masks`` of ``LoadAnnotations``.

    Upstream: we know no issue.

    Without it: an unknown label fails in torch, whose error names no file.

    Args:
        scope (str): The config's default scope. Only mmseg and mmdet have label maps.
    """
    from protuning_mm.data import label_map_loading as wrappers

    if scope == 'mmseg':
        from mmseg.datasets import BaseSegDataset
        from mmseg.datasets.transforms import LoadAnnotations

        wrap(BaseSegDataset, 'get_data_info', wrappers.add_label_settings)
        wrap(LoadAnnotations, '_load_seg_map', wrappers.check_mmseg_maps)
    elif scope == 'mmdet':
        from mmdet.datasets.transforms import LoadAnnotations

        wrap(LoadAnnotations, '_load_seg_map', wrappers.check_mmdet_maps)
        wrap(LoadAnnotations, '_load_masks', wrappers.name_unreadable_masks)


@skippable
def patch_coco_metrics(scope: str) -> None:
    """Let COCO's evaluation accept annotations without ``iscrowd`` and annotation ids of 0.

    Replaced: ``__init__`` of mmdet's COCO metrics. pycocotools raises a KeyError without ``iscrowd``, after an epoch of
    training. An annotation id of 0 means "unmatched" to it, so a perfect detection of that object counts as missed.

    Upstream: cocodataset/cocoapi#374 (``iscrowd``), cocodataset/cocoapi#332 and cocodataset/cocoapi#664 (id 0).

    Without it: add ``iscrowd`` to the annotation file, and number its annotations from 1.

    Args:
        scope (str): The config's default scope. Only mmdet uses pycocotools.
    """
    if scope != 'mmdet':
        return
    from mmdet.evaluation.metrics import CocoMetric, CocoPanopticMetric, DODCocoMetric

    from protuning_mm.data.metrics.ground_truth import complete_ground_truth

    for metric in (CocoMetric, CocoPanopticMetric, DODCocoMetric):
        wrap(metric, '__init__', complete_ground_truth)
