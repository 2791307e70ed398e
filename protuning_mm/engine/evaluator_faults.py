"""Explanations of a metric's failure that name the config keys to change."""

from typing import Any

from protuning_mm.engine.class_check import list_first

_NOT_LOADED = {
    'gt_instances': 'LoadAnnotations(with_bbox=True)',
    'labels': 'LoadAnnotations(with_bbox=True)',
    'bboxes': 'LoadAnnotations(with_bbox=True)',
    'instances': "LoadAnnotations(with_bbox=True), and 'instances' among the meta_keys of PackDetInputs",
    'gt_sem_seg': 'LoadAnnotations',
    'gt_label': 'labels, from its ann_file or from folders named after the classes',
}


def advice_for(metric: Any, error: Exception, key: str) -> str:
    """Describe a metric's failure, with a remedy if one is known.

    Args:
        metric (BaseMetric): The metric.
        error (Exception): The exception that the metric raised.
        key (str): Config key of the metric.
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    found = f'{type(error).__name__}: {lines[0][:300]}' if lines else type(error).__name__
    remedy = _remedy(metric, error, key)
    return f'{remedy} ({found})' if remedy else f'{found}. The first validation would fail with the same error'


def _remedy(metric: Any, error: Exception, key: str) -> str | None:
    classes = (metric.dataset_meta or {}).get('classes') or ()
    dataset = key.split('_')[0] + '_dataloader.dataset'
    topk = getattr(metric, 'topk', None)
    if topk and classes and max(topk) > len(classes):
        fitting = tuple(k for k in topk if k <= len(classes))
        return f'topk={tuple(topk)}, but {dataset} has {len(classes)} classes: set {key}.topk={fitting}'
    missing = error.args[0] if isinstance(error, KeyError) and error.args else None
    if missing == 'iscrowd':
        return 'annotations in its ann_file have no \'iscrowd\': add "iscrowd": 0 to each of them'
    if missing in _NOT_LOADED:
        return f'a sample of {dataset} has no {missing}: its pipeline must load {_NOT_LOADED[missing]}'
    if missing == 'segm is not in results':
        return f"the model predicts no masks: set {key}.metric='bbox', or give the model a mask head"
    if isinstance(error, AssertionError) and 'ground truth is required' in str(error):
        return f'without ann_file it needs instances: set {key}.ann_file to the annotation file of {dataset}'
    api, cat_ids = getattr(metric, '_coco_api', None), getattr(metric, 'cat_ids', None)
    if isinstance(error, IndexError) and cat_ids is not None and len(cat_ids) < len(classes):
        names = [category['name'] for category in api.cats.values()] if api is not None else []
        return (
            f'only {len(cat_ids)} of the {len(classes)} classes of {dataset} are categories of its ann_file '
            f'({list_first(names)}): set metainfo=dict(classes=…) of the data set to the names in that file'
        )
    if isinstance(error, AssertionError) and 'coco set' in str(error):
        return f'images of {dataset} are not in its ann_file: both must name the same file'
    return None
