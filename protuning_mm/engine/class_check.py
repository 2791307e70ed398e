"""Whether a data set's classes are those that the heads predict."""

from collections.abc import Iterator
from typing import Any

from torch import nn

# Heads that predict the data set's classes. RPN's one class and HTC's stuff map are none of them.
_HEADS = ('bbox_head', 'mask_head', 'decode_head', 'auxiliary_head', 'head')


def check_classes(model: nn.Module, dataset: Any, loader: str) -> None:
    """Check the number of classes of every head, and that the annotations know the classes.

    Args:
        model (nn.Module): A detector, segmentor or classifier of the hosts.
        dataset: The data set, built; data sets without ``classes`` in their ``metainfo`` are passed over.
        loader (str): The config's key of its loader, for the error.

    Raises:
        ValueError: names the head's config key, both numbers, and what would be right.
    """
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if classes is None:
        return
    _check_annotated(dataset, classes, loader)
    for head, found, advice in class_mismatches(model, dataset, f'{loader}.dataset'):
        raise ValueError(f'{head}={found}: {advice}')


def class_mismatches(model: nn.Module, dataset: Any, key: str) -> Iterator[tuple[str, str, str]]:
    """Compare every head's number of classes with a data set's.

    Args:
        model (nn.Module): A detector, segmentor or classifier of the hosts.
        dataset: Anything with ``classes`` in its ``metainfo``.
        key (str): The data set's key in the config.

    Yields:
        tuple: The config's key of a head's number, what was found, and what would be right.
    """
    classes = dataset.metainfo['classes']
    for name, num_classes in _num_classes(model):
        if num_classes != len(classes):
            where = f'model.{name}.num_classes'
            yield (
                where,
                f'{num_classes}, but {key} has {len(classes)} classes ({_shortened(classes)})',
                f'set {where}={len(classes)}, or metainfo=dict(classes=…) of the data set',
            )


def _check_annotated(dataset: Any, classes: Any, loader: str) -> None:
    while hasattr(dataset, 'dataset'):  # RepeatDataset and its kin
        dataset = dataset.dataset
    cat_ids = getattr(dataset, 'cat_ids', None)  # CocoDataset: categories found by name
    if cat_ids is not None and len(cat_ids) != len(classes):
        raise ValueError(
            f'{loader}.dataset: only {len(cat_ids)} of its {len(classes)} classes ({_shortened(classes)}) are '
            f'categories of {dataset.ann_file}: set metainfo=dict(classes=…) to the names in that file'
        )


def _num_classes(model: nn.Module) -> Iterator[tuple[str, int]]:
    for name, module in model.named_modules():
        parts = name.split('.')
        # a list of heads (Cascade R-CNN) has its index last
        kind = parts[-2] if parts[-1].isdigit() and len(parts) > 1 else parts[-1]
        num_classes = getattr(module, 'num_classes', None)
        if kind in _HEADS and isinstance(num_classes, int):
            yield name, num_classes


def _shortened(classes: Any) -> str:
    names = [str(name) for name in classes]
    return ', '.join(names[:6]) + (', …' if len(names) > 6 else '')
