"""Checks that the number of classes of a data set matches the model's heads."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from torch import nn

from protuning_mm.engine.errors import MismatchError

# Names of heads that predict the data set's classes; RPN (one class) and HTC's semantic head (stuff) do not.
_WHOLE_IMAGE = ('decode_head', 'auxiliary_head', 'head')
_HEADS = (
    'bbox_head', 'mask_head', 'mask_iou_head', 'point_head', 'segm_head', 'glbctx_head', 'query_head', 'panoptic_head',
    'panoptic_fusion_head', *_WHOLE_IMAGE,
)  # fmt: skip
# Heads of these types are not checked: an RPN model has its RPN head as bbox_head, STDC's auxiliary head predicts
# boundaries, Grounding DINO counts words of a caption, and SAN adds the background.
_NO_CLASSES = ('RPNHead', 'STDCHead', 'GroundingDINOHead', 'SideAdapterCLIPHead')
_MANY = 100_000  # data sets with more samples are not checked by their labels
_MAPS = 3  # number of stuff maps to look at
ALL, THINGS, STUFF = 'classes', 'thing classes', 'stuff classes'


def check_classes(model: nn.Module, dataset: Any, loader: str) -> None:
    """Check the number of classes of every head, and that the annotation file contains the classes.

    Args:
        model (nn.Module): A detector, segmentor or classifier of the hosts.
        dataset: The built data set. If its ``metainfo`` has no ``classes``, its labels are checked instead.
        loader (str): Config key of the data set's loader, for error messages.

    Raises:
        MismatchError: a head has another number of classes than the data set, or classes are missing in the annotation
            file.
    """
    _check_stuff(model, dataset, loader)
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if classes is None:
        _check_labels(model, dataset, loader)
        return
    _check_annotated(dataset, classes, loader)
    for head, found, advice in class_mismatches(model, dataset, f'{loader}.dataset'):
        raise MismatchError(f'{head}={found}: {advice}')


def class_mismatches(model: nn.Module, dataset: Any, key: str) -> Iterator[tuple[str, str, str]]:
    """Compare every head's number of classes with a data set's.

    Args:
        model (nn.Module): A detector, segmentor or classifier of the hosts.
        dataset: A data set with ``classes`` in its ``metainfo``.
        key (str): Config key of the data set.

    Yields:
        tuple: For each mismatch, the config key of the head's number of classes, the values found, and the remedy.
    """
    classes, things = dataset.metainfo['classes'], dataset.metainfo.get('thing_classes')
    stuff = dataset.metainfo.get('stuff_classes', ())
    known = {ALL: classes, THINGS: classes if things is None else things, STUFF: stuff}
    for head, num_classes, of in _num_classes(model):
        names, what = known[of], ALL if things is None else of
        if num_classes != len(names):
            yield (
                head,
                f'{num_classes}, but {key} has {len(names)} {what} ({list_first(names)})',
                f'set {head}={len(names)}, or metainfo=dict(classes=…) of the data set',
            )


def num_classes_of(model: nn.Module) -> int | None:
    """Return the number of classes that a model's heads predict; None if no head states it."""
    return next((num_classes for _, num_classes, of in _num_classes(model) if of != STUFF), None)


def _check_annotated(dataset: Any, classes: Any, loader: str) -> None:
    dataset = _unwrapped(dataset)
    cat_ids = getattr(dataset, 'cat_ids', None)  # CocoDataset sets it to the categories whose names are classes
    if cat_ids is not None and len(cat_ids) != len(classes):
        raise MismatchError(
            f'{loader}.dataset: only {len(cat_ids)} of its {len(classes)} classes ({list_first(classes)}) are '
            f'categories of {dataset.ann_file}: set metainfo=dict(classes=…) to the names in that file'
        )


def _check_labels(model: nn.Module, dataset: Any, loader: str) -> None:
    """Check the labels of a data set without class names, such as mmpretrain's lists of images and labels."""
    heads = list(_num_classes(model))  # empty for self-supervised models, whose images have no labels
    if not heads or not hasattr(dataset, 'get_gt_labels') or not 0 < len(dataset) <= _MANY:
        return
    highest = int(dataset.get_gt_labels().max())
    for name, num_classes, _ in heads:
        if highest >= num_classes:
            raise MismatchError(
                f'{name}={num_classes}, but {loader}.dataset has the label {highest}: set {name}={highest + 1}'
            )


def _check_stuff(model: nn.Module, dataset: Any, loader: str) -> None:
    """Check a few stuff maps against the semantic head, which predicts the maps' labels, not the data set's classes."""
    heads = [
        (f'model.{name}.num_classes', module)
        for name, module in model.named_modules()
        if name.endswith('semantic_head') and hasattr(module, 'criterion')  # of HTC and SCNet
    ]
    dataset = _unwrapped(dataset)
    transforms = list(getattr(getattr(dataset, 'pipeline', None), 'transforms', ()))
    loads = [getattr(each, 'with_seg', False) for each in transforms]
    if not heads or True not in loads:
        return
    for i in range(0, len(dataset), -(-len(dataset) // _MAPS)):
        info = dataset.get_data_info(i)
        for transform in transforms[: loads.index(True) + 1]:
            info = transform(info)
        labels = set(np.unique(info['gt_seg_map']).tolist())
        for key, head in heads:
            highest = max(labels - {getattr(head.criterion, 'ignore_index', None)}, default=0)
            if highest >= head.num_classes:
                raise MismatchError(
                    f'{key}={head.num_classes}, but {info["seg_map_path"]!r} of {loader}.dataset has the label '
                    f'{highest}: set {key} to the highest label of all maps + 1, or correct the map'
                )


def _unwrapped(dataset: Any) -> Any:
    while hasattr(dataset, 'dataset'):  # wrappers such as RepeatDataset
        dataset = dataset.dataset
    return dataset


def _num_classes(model: nn.Module) -> Iterator[tuple[str, int, str]]:
    """Yield config key and value of every number of classes in a model, and which classes are counted."""
    if hasattr(model, 'tracker'):  # video data sets have classes that are not tracked
        return
    for name, module in model.named_modules():
        parts = [part for part in name.split('.') if not part.isdigit()]  # Cascade R-CNN's heads are a list
        owner, kind = ['', '', *parts][-2:]
        head = owner if kind.startswith('loss_') else kind  # losses that count classes: label smoothing, Seesaw
        things, stuff = getattr(module, 'num_things_classes', None), getattr(module, 'num_stuff_classes', None)
        if kind not in _WHOLE_IMAGE and isinstance(things, int) and isinstance(stuff, int):  # panoptic: both together
            yield f'model.{name}.num_things_classes', things, THINGS
            yield f'model.{name}.num_stuff_classes', stuff, STUFF
            continue
        num_classes = getattr(module, 'num_classes', None)
        if not isinstance(num_classes, int) or type(module).__name__.endswith(_NO_CLASSES):
            continue
        if head in _HEADS:
            key = f'model.{name}'.replace('.loss_module', '.loss')
            yield f'{key}.num_classes', num_classes, ALL if head in _WHOLE_IMAGE else THINGS
        elif kind == 'data_preprocessor' and getattr(module, 'to_onehot', False):
            yield f'{name}.num_classes', num_classes, ALL  # in mmpretrain's configs it is not part of the model


def list_first(names: Iterable[Any]) -> str:
    """List the first six of some names."""
    names = [str(name) for name in names]
    return ', '.join(names[:6]) + (', …' if len(names) > 6 else '')
