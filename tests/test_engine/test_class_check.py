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
