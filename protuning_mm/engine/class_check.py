"""Whether a data set's classes are those that the heads predict."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from protuning_mm.engine.errors import MismatchError

# Heads that predict the data set's classes. RPN's one class and HTC's stuff map are none of them.
_HEADS = (
    'bbox_head', 'mask_head', 'mask_iou_head', 'point_head', 'segm_head', 'glbctx_head', 'query_head', 'panoptic_head',
    'panoptic_fusion_head', 'decode_head', 'auxiliary_head', 'head',
)  # fmt: skip
_WHOLE_IMAGE = ('decode_head', 'auxiliary_head', 'head')
# A RPN alone stands where a detector has its bbox_head; STDC's auxiliary head tells boundaries; Grounding DINO's number
# is that of words in a caption; SAN adds the background.
_NO_CLASSES = ('RPNHead', 'STDCHead', 'GroundingDINOHead', 'SideAdapterCLIPHead')
_MANY = 100_000  # labels
_MAPS = 3
ALL, THINGS, STUFF = 'classes', 'thing classes', 'stuff classes'


def check_classes(model: nn.Module, dataset: Any, loader: str) -> None:
    """Check the number of classes of every head, and that the annotations know the classes.

    Args:
        model (nn.Module): A detector, segmentor or classifier of the hosts.
        dataset: The data set, built; without ``classes`` in its ``metainfo`` its labels are looked at.
        loader (str): The config's key of its loader, for the error.

    Raises:
        MismatchError: names the head's config key, both numbers, and what would be right.
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
        dataset: Anything with ``classes`` in its ``metainfo``.
        key (str): The data set's key in the config.

    Yields:
        tuple: The config's key of a head's number, what was found, and what would be right.
    """
    classes, things = dataset.metainfo['classes'], dataset.metainfo.get('thing_classes')
    known = {
        ALL: classes,
        THINGS: classes if things is None else things,
        STUFF: dataset.metainfo.get('stuff_classes', ()),
    }
    for head, num_classes, of in _num_classes(model):
        there, what = known[of], ALL if things is None else of
        if num_classes != len(there):
            yield (
                head,
                f'{num_classes}, but {key} has {len(there)} {what} ({_shortened(there)})',
                f'set {head}={len(there)}, or metainfo=dict(classes=…) of the data set',
            )


def num_classes_of(model: nn.Module) -> int | None:
    """Number of classes that a model's heads predict; None where none of them tells."""
    return next((num_classes for _, num_classes, of in _num_classes(model) if of != STUFF), None)


def _check_annotated(dataset: Any, classes: Any, loader: str) -> None:
    dataset = _unwrapped(dataset)
    cat_ids = getattr(dataset, 'cat_ids', None)  # CocoDataset: categories found by name
    if cat_ids is not None and len(cat_ids) != len(classes):
        raise MismatchError(
            f'{loader}.dataset: only {len(cat_ids)} of its {len(classes)} classes ({_shortened(classes)}) are '
            f'categories of {dataset.ann_file}: set metainfo=dict(classes=…) to the names in that file'
        )


def _check_labels(model: nn.Module, dataset: Any, loader: str) -> None:
    """Compare the labels of a data set that names no classes, such as mmpretrain's lists of images and labels."""
    heads = list(_num_classes(model))  # self-supervised models have none, and their images no labels
    if not heads or not hasattr(dataset, 'get_gt_labels') or not 0 < len(dataset) <= _MANY:
        return
    highest = int(dataset.get_gt_labels().max())
    for name, num_classes, _ in heads:
        if highest >= num_classes:
            raise MismatchError(
                f'{name}={num_classes}, but {loader}.dataset has the label {highest}: set {name}={highest + 1}'
            )


def _check_stuff(model: nn.Module, dataset: Any, loader: str) -> None:
    """Compare a few stuff maps with the head that learns from them, whose classes are not the data set's."""
    heads = [
        (f'model.{name}.num_classes', module)
        for name, module in model.named_modules()
        if name.endswith('semantic_head') and hasattr(module, 'criterion')  # HTC's and SCNet's
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
                    f'{highest}: set {key} to the highest label of all maps + 1, or mend the map'
                )


def _unwrapped(dataset: Any) -> Any:
    while hasattr(dataset, 'dataset'):  # RepeatDataset and its kin
        dataset = dataset.dataset
    return dataset


def _num_classes(model: nn.Module) -> Iterator[tuple[str, int, str]]:
    """Config key and value of every number of classes, and of which classes it is the number."""
    if hasattr(model, 'tracker'):  # of videos with classes that are not tracked
        return
    for name, module in model.named_modules():
        parts = [part for part in name.split('.') if not part.isdigit()] or ['']  # Cascade R-CNN's heads are a list
        kind, owner = parts[-1], parts[-2] if len(parts) > 1 else ''
        things, stuff = getattr(module, 'num_things_classes', None), getattr(module, 'num_stuff_classes', None)
        if kind not in _WHOLE_IMAGE and isinstance(things, int) and isinstance(stuff, int):  # panoptic: both together
            yield f'model.{name}.num_things_classes', things, THINGS
            yield f'model.{name}.num_stuff_classes', stuff, STUFF
            continue
        num_classes = getattr(module, 'num_classes', None)
        if not isinstance(num_classes, int) or type(module).__name__.endswith(_NO_CLASSES):
            continue
        if kind in _HEADS:
            yield f'model.{name}.num_classes', num_classes, ALL if kind in _WHOLE_IMAGE else THINGS
        elif kind.startswith('loss_') and owner in _HEADS:  # label smoothing, Seesaw
            key = f'model.{name}'.replace('.loss_module', '.loss')
            yield f'{key}.num_classes', num_classes, ALL if owner in _WHOLE_IMAGE else THINGS
        elif kind == 'data_preprocessor' and getattr(module, 'to_onehot', False):
            yield f'{name}.num_classes', num_classes, ALL  # mmpretrain's stands beside the model


def _shortened(classes: Any) -> str:
    names = [str(name) for name in classes]
    return ', '.join(names[:6]) + (', …' if len(names) > 6 else '')
