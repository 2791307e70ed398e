"""Puts a folder of data into a config of the hosts: data sets, evaluators and numbers of classes."""

import copy
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_mm.data.data_folder import IGNORED, DataFolder, read_data_folder
from protuning_mm.engine.errors import ConfigError

_TASKS = {'mmdet': 'detection', 'mmseg': 'segmentation', 'mmpretrain': 'classification'}
_LOADERS = {'train': 'train_dataloader', 'val': 'val_dataloader', 'test': 'test_dataloader'}
# settings of a data set that do not depend on its files
_KEPT = ('pipeline', 'test_mode', 'filter_cfg', 'backend_args', 'return_classes')
# heads whose classes are not those of the data set, by config key or type
_OTHER_HEADS = ('rpn_head', 'semantic_head')
_OTHER_TYPES = ('RPNHead', 'STDCHead', 'SideAdapterCLIPHead', 'GroundingDINOHead')
_WITH_BOXES = 'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'
_WITH_MASKS = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
# keys of heads, losses, transforms, metrics and preprocessors that name the label of pixels without a class
_IGNORED = ('ignore_index', 'seg_pad_val')
# what a pipeline of mmdet may load besides boxes and masks
_MAPS = {'with_seg': 'label maps', 'LoadPanopticAnnotations': 'panoptic maps'}


def use_data(cfg: Config, folder: str | Path) -> Config:
    """Return a copy of a config that trains and evaluates on a folder of data.

    Data sets, evaluators and numbers of classes are replaced; pipelines, batch sizes and schedules stay. If the folder
    has no test split, val is used for it, and the reverse. A pipeline for images in memory, such as CIFAR's, also gets
    steps that load an image and resize it to the size that it crops.

    Args:
        cfg (Config): A config of mmdet, mmseg or mmpretrain.
        folder (str | Path): A folder that ``protuning data convert`` has written.

    Raises:
        DataError: the folder was not written by ``protuning data convert``.
        ConfigError: the folder is for another task than the config, or lacks annotations that the config needs.
    """
    data = read_data_folder(folder)
    content = copy.deepcopy(cfg.to_dict())
    content.pop('data', None)
    scope = content.get('default_scope')
    if _TASKS.get(str(scope)) != data.task:
        needed = next(name for name, task in _TASKS.items() if task == data.task)
        raise ConfigError(
            f'data={str(folder)!r} is for {data.task}, for a config of {needed}; but {cfg.filename or "this config"} '
            f'is of {scope or "no host (it has no default_scope)"}'
        )
    if data.task == 'classification' and not all(_loads_images(steps) for steps in _pipelines(content)):
        for holder in (content, content['model']):  # arrays are RGB, and loaded images BGR
            if holder.get('data_preprocessor'):
                holder['data_preprocessor']['to_rgb'] = True
    for split, loader in _LOADERS.items():
        if content.get(loader):
            make = partial(_make_dataset, data=data, split=_choose_split(data, split))
            content[loader]['dataset'] = _replace(content[loader]['dataset'], make)
            _check_annotations(content[loader]['dataset'], data, loader)
        evaluator = loader.replace('dataloader', 'evaluator')
        if content.get(evaluator):
            content[evaluator] = _make_evaluators(content[evaluator], data, _choose_split(data, split))
    for part in ('model', 'data_preprocessor'):
        _set_classes(content.get(part), len(data.classes))
    if data.task == 'segmentation':
        for node in _walk(content):
            node.update({key: IGNORED for key in _IGNORED if isinstance(node.get(key), int)})
    for key, value in (('data_root', str(data.path)), ('dataset_type', _dataset_type(data))):
        if key in content:
            content[key] = value
    return Config(content, filename=cfg.filename if cfg.filename and Path(cfg.filename).is_file() else None)


def _choose_split(data: DataFolder, split: str) -> str:
    order = {'train': ('train',), 'val': ('val', 'test'), 'test': ('test', 'val')}[split]
    found = next((name for name in order if name in data.splits), None)
    if found is None:
        raise ConfigError(
            f'data={str(data.path)!r} has the splits {", ".join(data.splits)}, and none for {split}: convert the data '
            'again with --val 0.2, or set the dataloader, the evaluator and the cfg of this split to None'
        )
    return found


def _replace(dataset: Any, make: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Replace the innermost data set; of several that are joined, the first stands for all."""
    if isinstance(dataset.get('datasets'), list) and dataset['datasets']:
        return _replace(dataset['datasets'][0], make)
    if isinstance(dataset.get('dataset'), dict):
        return dict(dataset, dataset=_replace(dataset['dataset'], make))
    if isinstance(dataset.get('dataset'), list):  # of mmdet's wrappers of several data sets
        return _replace(dataset['dataset'][0], make)
    return make(dataset)


def _dataset_type(data: DataFolder) -> str:
    return dict(detection='CocoDataset', segmentation='BaseSegDataset', classification='CustomDataset')[data.task]


def _make_dataset(old: dict[str, Any], data: DataFolder, split: str) -> dict[str, Any]:
    kept = {key: old[key] for key in _KEPT if key in old}
    metainfo: dict[str, Any] = dict(classes=list(data.classes))
    new = dict(type=_dataset_type(data), data_root='', ann_file=data.annotations(split), metainfo=metainfo)
    images = data.images(split)
    if data.task == 'detection':
        return new | dict(data_prefix=dict(img=images)) | kept
    if data.task == 'classification':
        if not _loads_images(kept.get('pipeline') or ()):
            kept['pipeline'] = _load_images(kept.get('pipeline') or ())
        return new | dict(data_prefix=images) | kept
    if data.palette is not None:
        metainfo['palette'] = [list(colour) for colour in data.palette]
    for step in _walk(kept.get('pipeline')):
        if 'reduce_zero_label' in step:
            step['reduce_zero_label'] = False
    maps = str((data.path / 'labels').resolve())
    prefix = dict(img_path=images, seg_map_path=maps)
    return new | dict(data_prefix=prefix, img_suffix='', seg_map_suffix='.png', reduce_zero_label=False) | kept


def _pipelines(content: dict[str, Any]) -> list[Any]:
    parts = [content.get(loader) for loader in _LOADERS.values()]
    return [step['pipeline'] for step in _walk(parts) if isinstance(step.get('pipeline'), list | tuple)]


def _loads_images(pipeline: Sequence[Any]) -> bool:
    return any('LoadImage' in str(step.get('type')) for step in pipeline)


def _load_images(pipeline: Sequence[Any]) -> list[Any]:
    size = next((step['crop_size'] for step in pipeline if isinstance(step.get('crop_size'), int)), None)
    resize = [] if size is None else [dict(type='Resize', scale=(size, size))]
    return [dict(type='LoadImageFromFile'), *resize, *pipeline]


def _check_annotations(dataset: Any, data: DataFolder, loader: str) -> None:
    """Check that the folder has what the pipelines load.

    Raises:
        ConfigError: a pipeline loads masks or maps, and the folder has none.
    """
    if data.task != 'detection':
        return
    for step in _walk(dataset):
        name = str(step.get('type')).rpartition('.')[2]
        missing = next((what for key, what in _MAPS.items() if step.get(key) is True or name == key), None)
        if step.get('with_mask') is True and not data.masks:
            missing = 'masks of objects'
        if missing:
            has, instead = ('boxes and masks', _WITH_MASKS) if data.masks else ('boxes', _WITH_BOXES)
            raise ConfigError(
                f'{loader}: its pipeline loads {missing}, and data={str(data.path)!r} has {has} only: take a config '
                f'that needs no {missing}, such as {instead}'
            )


def _make_evaluators(evaluators: Any, data: DataFolder, split: str) -> Any:
    if isinstance(evaluators, Sequence):
        return [_make_evaluators(each, data, split) for each in evaluators]
    name = str(evaluators.get('type')).rpartition('.')[2]
    if data.task == 'detection' and name.endswith('Metric'):
        if name != 'CocoMetric':
            evaluators = dict(type='CocoMetric', metric=['bbox', 'segm'] if data.masks else 'bbox')
        metric = evaluators.get('metric', 'bbox')
        if not data.masks and not isinstance(metric, str):
            metric = [each for each in metric if each != 'segm'] or 'bbox'
        return dict(evaluators, ann_file=data.annotations(split), metric=metric)
    if data.task == 'segmentation' and name.endswith('Metric') and name != 'IoUMetric':
        return dict(type='IoUMetric', iou_metrics=['mIoU'])
    if data.task == 'classification' and 'topk' in evaluators:
        return dict(evaluators, topk=_fitting(evaluators['topk'], len(data.classes)))
    return evaluators


def _fitting(topk: Any, number: int) -> Any:
    return topk if isinstance(topk, int) else tuple(k for k in topk if k <= number) or (1,)


def _set_classes(node: Any, number: int, key: str = '') -> None:
    """Set every number of classes below a part of a config."""
    if isinstance(node, list | tuple):
        for each in node:
            _set_classes(each, number, key)
    if not isinstance(node, MutableMapping):
        return
    other = key in _OTHER_HEADS or str(node.get('type')).rpartition('.')[2].endswith(_OTHER_TYPES)
    if not other:
        old = node.get('num_things_classes', node.get('num_classes'))
        if 'num_things_classes' in node:
            old = old + node.get('num_stuff_classes', 0)
            node.update(num_things_classes=number, num_stuff_classes=0)
        if isinstance(node.get('num_classes'), int):
            node['num_classes'] = number
        if key == 'head' and 'topk' in node:
            node['topk'] = _fitting(node['topk'], number)
        if isinstance(old, int):
            _set_weights(node, old, number)
    for name, value in node.items():
        _set_classes(value, number, name)


def _set_weights(head: MutableMapping[str, Any], old: int, number: int) -> None:
    """Fit the class weights of a head's losses: equal ones to the new number, others are removed."""
    for loss in _walk([value for name, value in head.items() if name.startswith('loss')]):
        weights = loss.get('class_weight')
        if isinstance(weights, list | tuple) and len(weights) in (old, old + 1):
            same = len(set(weights[:old])) == 1
            loss['class_weight'] = [weights[0]] * number + list(weights[old:]) if same else None


def _walk(node: Any) -> Iterator[MutableMapping[str, Any]]:
    """Yield every dict in a part of a config."""
    if isinstance(node, MutableMapping):
        yield node
    values = node.values() if isinstance(node, MutableMapping) else node if isinstance(node, list | tuple) else ()
    for value in values:
        yield from _walk(value)
