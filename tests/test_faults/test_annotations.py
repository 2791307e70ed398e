"""Annotations in COCO's layout that are wrong: told before anything is built, by file, id and what is wrong.

What mmdet itself drops or takes stays accepted; its own data set says how much is left.
"""

import copy
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from pycocotools import mask as coco_mask

from protuning_mm.cli import train as train_tool
from protuning_mm.data import DataError, check_data_files
from protuning_mm.doctor.data import check_data
from protuning_mm.doctor.training_setup import TrainingSetup
from tests.mini import CLASSES, SIZE, write_coco, write_config

HEIGHT, WIDTH = SIZE
POLYGON = [10, 10, 30, 10, 30, 40, 10, 40]  # 20 wide, 30 high


def config(root: Path) -> Config:
    data = dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        metainfo=dict(classes=CLASSES),
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=[dict(type='LoadAnnotations', with_bbox=True, with_mask=True)],
    )
    return Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=data)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / 'coco')


def annotations(root: Path) -> Path:
    return root / 'annotations/instances_train2017.json'


def edited(root: Path, edit: Any) -> None:
    content = json.loads(annotations(root).read_text())
    changed = edit(content)
    annotations(root).write_text(json.dumps(content if changed is None else changed))


def box(value: Any) -> Any:
    return lambda c: c['annotations'][1].update(bbox=value)


def mask(value: Any) -> Any:
    return lambda c: c['annotations'][1].update(segmentation=value)


def without(part: str, key: str) -> Any:
    return lambda c: (c[part][1].pop(key), None)[1]


FAULTS: dict[str, tuple[Any, str]] = {
    'no dict': (lambda c: [c], "not in COCO's layout.*list"),
    'empty dict': (lambda c: {}, "not in COCO's layout"),
    'null': (lambda c: 'null', "not in COCO's layout.*str"),
    'no images key': (lambda c: c.pop('images') and None, "not in COCO's layout"),
    'no images': (lambda c: c.update(images=[]), 'lists no image'),
    'no annotations': (lambda c: c.update(annotations=[]), 'lists no annotation'),
    'nan': (box([float('nan'), 1, 2, 3]), 'annotation id 2 of image id 0: bbox=.*four finite numbers'),
    'infinity': (box([0, 1, float('inf'), 3]), 'annotation id 2.*four finite numbers'),
    'huge': (box([0, 0, 1e30, 1e30]), 'annotation id 2.*four finite numbers'),
    'text': (box(['1', '2', '3', '4']), 'annotation id 2.*four finite numbers'),
    'three numbers': (box([1, 2, 3]), 'annotation id 2.*four finite numbers'),
    'no bbox': (without('annotations', 'bbox'), 'id, image_id, category_id, bbox, area are required'),
    'no category_id': (without('annotations', 'category_id'), 'id, image_id, category_id, bbox, area are required'),
    'no image_id': (without('annotations', 'image_id'), 'id, image_id, category_id, bbox, area are required'),
    'no area': (without('annotations', 'area'), 'id, image_id, category_id, bbox, area are required'),
    'area in words': (lambda c: c['annotations'][1].update(area='large'), "annotation id 2.*area='large'"),
    'a list as image_id': (lambda c: c['annotations'][1].update(image_id=[0]), 'annotation id 2.*integers'),
    'image_id of pandas': (
        lambda c: c['annotations'][1].update(image_id=0.0),
        r'annotation id 2: image_id=0\.0: ids must be integers',
    ),
    'category_id of pandas': (
        lambda c: c['annotations'][1].update(category_id=2.0),
        r'annotation id 2: category_id=2\.0: ids must be integers',
    ),
    'annotation id of pandas': (lambda c: c['annotations'][1].update(id=2.0), r'id=2\.0: ids must be integers'),
    'image id of pandas': (lambda c: c['images'][1].update(id=1.0), r'image id 1\.0.*ids must be integers'),
    'category of pandas': (lambda c: c['categories'][1].update(id=2.0), "category 'b': id=2.0: ids.*integers"),
    'a list as an image id': (lambda c: c['images'][1].update(id=[1]), r'image id \[1\].*integers'),
    'iscrowd of pandas': (
        lambda c: c['annotations'][1].update(iscrowd=float('nan')),
        'annotation id 2.*iscrowd=nan must be 0 or 1',
    ),
    'polygon of one point': (mask([[10, 10]]), r'annotation id 2 of image id 0.*of one point, \[10, 10\]'),
    'polygon of two points': (mask([[10, 10, 30, 30]]), 'annotation id 2 of image id 0.*of 2 points'),
    'polygon of an odd number': (mask([[10, 10, 30, 10, 30]]), 'annotation id 2 of image id 0.*of 5 numbers'),
    'a point beside a polygon': (mask([POLYGON, [5, 5]]), r'annotation id 2 of image id 0.*one point, \[5, 5\]'),
    'a polygon of nothing': (mask([POLYGON, []]), 'annotation id 2 of image id 0.*of 0 points'),
    'no mask where masks are loaded': (without('annotations', 'segmentation'), 'annotation id 2.*with_mask=True'),
    'boxes without area alone': (
        lambda c: [a.update(bbox=[1, 1, 0, 0]) for a in c['annotations']] and None,
        'has nothing to learn: none of its',
    ),
    'no file_name': (without('images', 'file_name'), 'id and file_name are required'),
    'no height': (without('images', 'height'), 'image id 1.*height=None'),
    'height of zero': (lambda c: c['images'][0].update(height=0), 'image id 0.*height=0.*positive'),
    'same annotation id': (lambda c: c['annotations'][1].update(id=1), 'another annotation has this id'),
    'same image id': (lambda c: c['images'][1].update(id=0), 'another image has this id'),
    'nan in a polygon': (
        mask([[1, 2, 3, float('nan'), 5, 6]]),
        'annotation id 2.*is no list of finite numbers',
    ),
    'text as a mask': (mask('a mask'), 'annotation id 2.*must be polygons, or a dict'),
    'counts alone': (mask(dict(counts=[1, 2])), 'annotation id 2.*must be polygons, or a dict'),
    'run lengths of another size': (mask(dict(counts=[6], size=[2, 3])), r'size=\[2, 3\], but its image is 96x128'),
    'run lengths that do not add up': (
        mask(dict(counts=[5, 5], size=[HEIGHT, WIDTH])),
        'run lengths that add up to 96 x 128',
    ),
    'no known category left': (
        lambda c: [a.update(category_id=77) for a in c['annotations']] and None,
        'none of its 12 annotations',
    ),
    'no known image left': (
        lambda c: [a.update(image_id=77) for a in c['annotations']] and None,
        'none of its 12 annotations',
    ),
    'two categories of one name': (
        lambda c: c['categories'].append(dict(id=9, name='b')),
        "category id 9: id 2 has the same name, 'b'.*later labels",
    ),
    'two categories of one id': (lambda c: c['categories'][2].update(id=2), r"category id 2 \('c'\): 'b' has the same"),
    'category without a name': (lambda c: c['categories'].append(dict(id=9)), 'id and name are required'),
    'missing category': (lambda c: c['categories'].pop() and None, "1 of its 3 classes are no categories.*'?c'?"),
}


@pytest.mark.parametrize('fault', list(FAULTS))
def test_told_before_anything_is_built(fault: str, root: Path) -> None:
    edit, said = FAULTS[fault]
    check_data_files(config(root), ['train_dataloader'])
    edited(root, edit)
    with pytest.raises(DataError, match=f'(?s)train_dataloader.dataset.*{said}') as caught:
        check_data_files(config(root), ['train_dataloader'])
    assert 'instances_train2017.json' in str(caught.value)


@pytest.mark.parametrize('fault', list(FAULTS))
def test_the_doctor_judges_the_same(fault: str, root: Path) -> None:
    edit, said = FAULTS[fault]
    assert not [each for each in check_data(TrainingSetup(config(root))) if each.level == 'error']
    edited(root, edit)
    errors = [f'{each.where} {each.found}' for each in check_data(TrainingSetup(config(root))) if each.level == 'error']
    assert any(re.search(said, error, re.DOTALL) for error in errors), errors


WRONG_POLYGONS = {
    'one point': [[10, 10]],
    'two points': [[10, 10, 30, 30]],
    'odd': [[10, 10, 30, 10, 30]],
    'beside': [[5, 5], POLYGON],
}


@pytest.mark.parametrize('polygons', list(WRONG_POLYGONS))
def test_why_such_polygons_are_told(polygons: str) -> None:
    """COCO's own code cannot read them, or finds no pixel in them."""
    try:
        area = coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(WRONG_POLYGONS[polygons], HEIGHT, WIDTH)))
    except Exception:
        area = 0
    assert area == 0


@pytest.mark.parametrize('polygons', list(WRONG_POLYGONS))
def test_polygons_that_boxes_do_not_need(polygons: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning by annotation id, in training and by the doctor; an error where the evaluator scores masks."""
    edited(root, mask(WRONG_POLYGONS[polygons]))
    cfg = config(root)
    cfg.train_dataloader.dataset.pipeline = [dict(type='LoadAnnotations', with_bbox=True)]
    said = []
    monkeypatch.setattr('protuning_mm.data.annotations.print_log', lambda text, *args: said.append((text, *args)))
    check_data_files(cfg, ['train_dataloader'])
    ((text, logger, level),) = said
    assert 'annotation id 2 of image id 0' in text and (logger, level) == ('current', logging.WARNING)
    warned = [each for each in check_data(TrainingSetup(cfg)) if each.level == 'warning']
    assert [each.found.count('annotation id 2 of image id 0') for each in warned] == [1]
    cfg.val_dataloader, cfg.val_evaluator = cfg.train_dataloader, dict(type='CocoMetric', metric=['bbox', 'segm'])
    with pytest.raises(DataError, match=r'val_dataloader(?s:.*)annotation id 2 of image id 0'):
        check_data_files(cfg, ['val_dataloader'])


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        (b'', 'is not JSON'),
        (b'{"images": [', 'is not JSON'),
        (b'not json', 'is not JSON'),
        (b'\xff\xfe\x00', 'is not JSON'),
        ('{}'.encode('utf-16'), 'is not JSON'),
        (b'\xef\xbb\xbf{"images": [], "annotations": [], "categories": []}', 'byte order mark'),
    ],
)
def test_no_json(content: bytes, said: str, root: Path) -> None:
    annotations(root).write_bytes(content)
    with pytest.raises(DataError, match=said):
        check_data_files(config(root), ['train_dataloader'])


def rle(compressed: bool) -> dict[str, Any]:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    pixels[10:40, 10:30] = 1
    packed = coco_mask.encode(pixels)
    if compressed:
        return dict(size=[HEIGHT, WIDTH], counts=packed['counts'].decode())
    runs, value = [0], 0
    for pixel in pixels.flatten(order='F'):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return dict(size=[HEIGHT, WIDTH], counts=runs)


# what is written -> objects of the first image that mmdet leaves, of three
ACCEPTED: dict[str, tuple[Any, int]] = {
    'as it is': (lambda c: None, 3),
    'negative width': (box([10, 10, -5, 5]), 2),
    'no area': (box([10, 10, 0, 5]), 2),
    'two categories of one name, of no class': (
        lambda c: c['categories'].extend(dict(id=i, name='other') for i in (8, 9)),
        3,
    ),
    'outside': (box([5000, 5000, 10, 10]), 2),
    'partly outside': (box([-5, -5, 30, 30]), 3),
    'unknown category': (lambda c: c['annotations'][1].update(category_id=99), 2),
    'unknown image': (lambda c: c['annotations'][1].update(image_id=99), 2),
    'crowd': (lambda c: c['annotations'][1].update(iscrowd=1, segmentation=rle(False)), 3),
    'run lengths': (mask(rle(False)), 3),
    'compressed run lengths': (mask(rle(True)), 3),
    'two polygons': (mask([POLYGON, [50, 50, 60, 50, 60, 60]]), 3),
    'image without objects': (
        lambda c: c['images'].append(dict(id=50, file_name='0.jpg', height=HEIGHT, width=WIDTH)),
        3,
    ),
}


@pytest.mark.parametrize('kind', list(ACCEPTED))
def test_what_mmdet_takes_is_taken(kind: str, root: Path) -> None:
    from mmdet.datasets import CocoDataset

    edit, left = ACCEPTED[kind]
    edited(root, lambda c: (edit(c), None)[1])
    cfg = config(root)
    check_data_files(cfg, ['train_dataloader'])
    settings = copy.deepcopy(cfg.train_dataloader.dataset.to_dict())
    data = CocoDataset(**{k: v for k, v in settings.items() if k != 'type'} | dict(pipeline=[]))
    first = next(data.get_data_info(i) for i in range(len(data)) if data.get_data_info(i)['img_id'] == 0)
    assert len(first['instances']) == left


def test_what_mmdet_would_make_of_two_categories_of_one_name(root: Path) -> None:
    """So they must be told: three classes, and a label of 3."""
    from mmdet.datasets import CocoDataset

    edited(root, lambda c: c['categories'].insert(1, dict(id=9, name='b')))
    settings = config(root).train_dataloader.dataset.to_dict()
    data = CocoDataset(**{k: v for k, v in settings.items() if k != 'type'} | dict(pipeline=[]))
    assert max(each['bbox_label'] for each in data.get_data_info(0)['instances']) == len(CLASSES)


@pytest.mark.parametrize('form', [True, False])
def test_run_lengths_give_the_polygon_s_pixels(form: bool, root: Path) -> None:
    """Polygons and run lengths mixed: the same mask through mmdet's own pipeline."""
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    edited(root, lambda c: mask(rle(form))(c))
    settings = config(root).train_dataloader.dataset.to_dict()
    data = CocoDataset(**{k: v for k, v in settings.items() if k != 'type'} | dict(pipeline=[]))
    results = LoadAnnotations(with_mask=True, poly2mask=True)(data.get_data_info(0) | dict(ori_shape=SIZE))
    expected = np.zeros(SIZE, bool)
    expected[10:40, 10:30] = True
    assert np.array_equal(results['gt_masks'].masks[1].astype(bool), expected)


def test_through_the_tool(tmp_path: Path) -> None:
    """An exit with the message alone, before anything is written to the work dir but its log."""
    path = write_config('cascade', tmp_path)
    edited(tmp_path / 'coco', box([float('nan')] * 4))
    with pytest.raises(SystemExit, match=r'error: train_dataloader.dataset.ann_file: (?s:.*)annotation id 2'):
        train_tool.main([str(path), '--work-dir', str(tmp_path / 'run')])
    assert not list((tmp_path / 'run').glob('*.pth'))


@pytest.mark.parametrize(
    ('kind', 'refused'), [('CocoDataset', True), ('CocoPanopticDataset', False), ('CocoCaptionDataset', False)]
)
def test_annotations_that_hold_no_boxes(kind: str, refused: bool, root: Path) -> None:
    """Captions and panoptic segments share COCO's layout, not its boxes: their own classes read them."""
    edited(root, lambda c: [each.pop('bbox') for each in c['annotations']] and None)
    cfg = config(root)
    cfg.train_dataloader.dataset.type = kind
    if refused:
        with pytest.raises(DataError, match='bbox'):
            check_data_files(cfg, ['train_dataloader'])
    else:
        check_data_files(cfg, ['train_dataloader'])
