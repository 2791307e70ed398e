"""Classes of the data set against classes of the heads, on stand-ins with the hosts' names."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from protuning_mm.engine.class_check import check_classes


def head(num_classes: int) -> nn.Module:
    module = nn.Module()
    module.num_classes = num_classes
    return module


def model(**heads: Any) -> nn.Module:
    """A model whose parts have the hosts' names; a list of numbers is a list of heads, as in Cascade R-CNN."""
    whole = nn.Module()
    for name, value in heads.items():
        part = (
            model(**value)
            if isinstance(value, dict)
            else nn.ModuleList(map(head, value))
            if isinstance(value, list)
            else head(value)
        )
        whole.add_module(name, part)
    return whole


def data(*classes: str, **attributes: Any) -> SimpleNamespace:
    return SimpleNamespace(metainfo=dict(classes=classes), **attributes)


CASCADE = dict(rpn_head=1, roi_head=dict(bbox_head=[3, 3, 3], mask_head=[3, 3, 3]))


@pytest.mark.parametrize(
    'parts',
    [
        CASCADE,
        dict(decode_head=3, auxiliary_head=3),
        dict(decode_head=[3, 3]),
        dict(head=3),
        # RPN's one class and HTC's stuff map are not the data set's classes
        dict(rpn_head=1, roi_head=dict(bbox_head=3, semantic_head=183)),
    ],
)
def test_fitting_heads_pass(parts: dict) -> None:
    check_classes(model(**parts), data('a', 'b', 'c'), 'train_dataloader')


@pytest.mark.parametrize(
    ('parts', 'key'),
    [
        (dict(roi_head=dict(bbox_head=[3, 4, 3])), 'model.roi_head.bbox_head.1.num_classes=4'),
        (dict(roi_head=dict(mask_head=[80])), 'model.roi_head.mask_head.0.num_classes=80'),
        (dict(decode_head=3, auxiliary_head=150), 'model.auxiliary_head.num_classes=150'),
        (dict(head=10), 'model.head.num_classes=10'),
        (dict(bbox_head=80), 'model.bbox_head.num_classes=80'),
    ],
)
def test_names_the_key_and_both_numbers(parts: dict, key: str) -> None:
    with pytest.raises(ValueError, match=re.escape(key)) as caught:
        check_classes(model(**parts), data('cat', 'dog', 'cow'), 'val_dataloader')
    said = str(caught.value)
    assert 'val_dataloader.dataset has 3 classes (cat, dog, cow)' in said
    assert re.search(r'set model\.\S+num_classes=3', said)


def test_annotations_that_lack_a_class() -> None:
    """CocoDataset keeps only categories that it finds by name; through RepeatDataset too."""
    coco = data('cat', 'dog', 'cow', cat_ids=[1, 2], ann_file='some/instances.json')
    wrapped = data('cat', 'dog', 'cow', dataset=SimpleNamespace(dataset=coco))
    for dataset in (coco, wrapped):
        with pytest.raises(ValueError, match='only 2 of its 3 classes') as caught:
            check_classes(model(**CASCADE), dataset, 'train_dataloader')
        assert 'some/instances.json' in str(caught.value)
        assert 'metainfo=dict(classes=' in str(caught.value)


def test_data_set_without_classes_passes() -> None:
    check_classes(model(**CASCADE), SimpleNamespace(metainfo={}), 'train_dataloader')
    check_classes(model(**CASCADE), [1, 2, 3], 'train_dataloader')


def test_long_lists_are_shortened() -> None:
    with pytest.raises(ValueError, match='c0, c1, c2, c3, c4, c5, …') as caught:
        check_classes(model(head=3), data(*(f'c{i}' for i in range(80))), 'train_dataloader')
    assert 'c6' not in str(caught.value)


def panoptic(**heads: tuple[int, int]) -> nn.Module:
    """Heads of things and stuff; mmdet's add them up."""
    whole = nn.Module()
    for name, (things, stuff) in heads.items():
        whole.add_module(name, head(things + stuff))
        part = whole.get_submodule(name)
        part.num_things_classes, part.num_stuff_classes = things, stuff
    return whole


THINGS = dict(thing_classes=('a', 'b'), stuff_classes=('c',), classes=('a', 'b', 'c'))


def test_things_and_stuff() -> None:
    """Mask2Former for instances has no stuff; Panoptic FPN's boxes are of things alone."""
    check_classes(panoptic(panoptic_head=(3, 0), panoptic_fusion_head=(3, 0)), data('a', 'b', 'c'), 'train_dataloader')
    whole = panoptic(panoptic_head=(2, 1), semantic_head=(2, 1))
    whole.bbox_head = head(2)
    check_classes(whole, SimpleNamespace(metainfo=THINGS), 'train_dataloader')
    whole.semantic_head.num_stuff_classes = 53
    with pytest.raises(ValueError, match=r'model.semantic_head.num_stuff_classes=53, .* has 1 stuff classes \(c\)'):
        check_classes(whole, SimpleNamespace(metainfo=THINGS), 'train_dataloader')
    with pytest.raises(ValueError, match='model.panoptic_head.num_things_classes=80, .* has 3 classes'):
        check_classes(panoptic(panoptic_head=(80, 53)), data('a', 'b', 'c'), 'train_dataloader')


def test_labels_where_no_class_is_named() -> None:
    """mmpretrain's lists of images and labels."""
    import numpy as np

    class Listed(list):
        def get_gt_labels(self) -> Any:
            return np.array(self)

    check_classes(model(head=3), Listed([0, 2, 1]), 'train_dataloader')
    with pytest.raises(ValueError, match=r'model.head.num_classes=3, but val_dataloader.dataset has the label 7: .*=8'):
        check_classes(model(head=3), Listed([0, 7, 1]), 'val_dataloader')


def test_images_without_labels_are_not_asked_for_them() -> None:
    """As self-supervised models take them; mmpretrain's data sets raise where there are none."""

    class Unlabelled(list):
        def get_gt_labels(self) -> Any:
            raise KeyError('gt_label')

    check_classes(model(neck=3), Unlabelled([0, 1]), 'train_dataloader')


def test_heads_of_other_classes_than_the_data_set_s() -> None:
    """The hosts' own STDC learns boundaries beside its 19 classes; a tracker's detector finds persons alone."""
    boundary = type('STDCHead', (nn.Module,), {})()
    boundary.num_classes = 2
    whole = model(decode_head=3, auxiliary_head=[3, 3])
    whole.auxiliary_head.append(boundary)
    check_classes(whole, data('a', 'b', 'c'), 'train_dataloader')
    proposals = nn.Module()
    proposals.bbox_head = type('GARPNHead', (nn.Module,), {})()
    proposals.bbox_head.num_classes = 1
    check_classes(proposals, data('a', 'b', 'c'), 'train_dataloader')
    tracking = model(detector=dict(bbox_head=1), reid=dict(head=380))
    tracking.tracker = object()
    check_classes(tracking, data('a', 'b', 'c'), 'val_dataloader')
