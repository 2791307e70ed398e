"""Labels counted from built data sets, compared with counts from the files; classes that never occur."""

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import nn

from protuning_mm.cli import train as train_tool
from protuning_mm.data import DataError
from protuning_mm.data.label_counts import count_labels
from protuning_mm.data.label_faults import find_label_faults
from protuning_mm.doctor.data import check_data
from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.engine.hooks.label_check_hook import LabelCheckHook
from protuning_mm.patches import patch_empty_data_sets
from tests.classification_data import write_image
from tests.mini import CLASSES, REPO, write_ade, write_coco, write_config

DATA = REPO.parent / 'shared/data'
TRAIN = 'train_dataloader.dataset'


def built(scope: str, **cfg: Any) -> Any:
    with DATASETS.switch_scope_and_registry(scope) as registry:
        return registry.build(cfg)


def write_voc(root: Path, names: Sequence[Sequence[str]]) -> Path:
    """Write one XML file per image, with objects of these names."""
    for i, objects in enumerate(names):
        write_image(root / f'JPEGImages/{i}.jpg')
        boxes = ''.join(
            f'<object><name>{name}</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>'
            '</object>'
            for name in objects
        )
        (root / 'Annotations').mkdir(parents=True, exist_ok=True)
        size = '<size><width>32</width><height>32</height></size>'
        (root / f'Annotations/{i}.xml').write_text(f'<annotation>{size}{boxes}</annotation>')
    (root / 'train.txt').write_text('\n'.join(map(str, range(len(names)))))
    return root


def voc(root: Path, classes: Sequence[str], **more: Any) -> dict[str, Any]:
    prefix, metainfo = dict(sub_data_root=''), dict(classes=tuple(classes))
    place = dict(data_root=str(root), ann_file='train.txt', data_prefix=prefix)
    return dict(type='VOCDataset', metainfo=metainfo, pipeline=[], **place, **more)


def coco(root: Path) -> dict[str, Any]:
    place = dict(data_root=str(root), ann_file='annotations/instances_train2017.json', data_prefix=dict(img=''))
    return dict(type='CocoDataset', metainfo=dict(classes=CLASSES), pipeline=[], **place)


def maps(root: Path, classes: Sequence[str], reduce: bool = False, split: str = 'training') -> dict[str, Any]:
    return dict(
        type='BaseSegDataset',
        data_root=str(root),
        img_suffix='.jpg',
        data_prefix=dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}'),
        reduce_zero_label=reduce,
        metainfo=dict(classes=tuple(classes)),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')],
    )


def rewrite(root: Path, values: Sequence[int]) -> None:
    """Fill every map with stripes of these values."""
    for path in root.glob('annotations/*/*.png'):
        h, w = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape
        cv2.imwrite(str(path), np.repeat(np.resize(np.array(values, np.uint8), h)[:, None], w, axis=1))


def test_objects_in_xml(tmp_path: Path) -> None:
    data = built('mmdet', **voc(write_voc(tmp_path, ['ab', 'b', 'bbx']), 'abc'))
    found = count_labels(data)
    assert (found.unit, found.size, found.counted) == ('objects', 3, 3)
    assert found.numbers.tolist() == [1, 4, 0]
    assert str(found) == 'objects per class: a 1, b 4, c 0'


def test_objects_in_coco(tmp_path: Path) -> None:
    root = write_coco(tmp_path)
    path = root / 'annotations/instances_train2017.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['iscrowd'] = 1  # mmdet ignores it in training
    path.write_text(json.dumps(content))
    there = Counter(each['category_id'] for each in content['annotations'] if not each['iscrowd'])
    assert count_labels(built('mmdet', **coco(root))).numbers.tolist() == [there[1], there[2], there[3]]


@pytest.mark.parametrize('reduce', [True, False])
def test_pixels_of_maps(reduce: bool, tmp_path: Path) -> None:
    root = write_ade(tmp_path)
    expected = np.zeros(4, int)
    for path in (root / 'annotations/training').iterdir():
        expected += np.bincount(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ravel(), minlength=256)[:4]
    data = built('mmseg', **maps(root, 'abc' if reduce else 'oabc', reduce))
    assert count_labels(data).numbers.tolist() == expected[int(reduce) :].tolist()


def test_images_in_folders(tmp_path: Path) -> None:
    for name, number in (('cat', 2), ('dog', 3)):
        for i in range(number):
            write_image(tmp_path / name / f'{i}.jpg')
    found = count_labels(built('mmpretrain', type='CustomDataset', data_root=str(tmp_path)))
    assert (found.unit, found.numbers.tolist()) == ('images', [2, 3])


def test_wrappers_are_unwrapped(tmp_path: Path) -> None:
    """Repeating does not increase counts; a class may occur in only one of two data sets."""
    one = voc(write_voc(tmp_path / 'one', ['a']), 'ab')
    two = voc(write_voc(tmp_path / 'two', ['bb']), 'ab')
    data = built('mmdet', type='RepeatDataset', times=5, dataset=dict(type='ConcatDataset', datasets=[one, two]))
    found = count_labels(data)
    assert (found.size, found.numbers.tolist()) == (2, [1, 2])
    assert not list(find_label_faults(found, TRAIN))


def test_data_sets_without_labels_are_skipped() -> None:
    assert count_labels([1, 2, 3]) is None
    assert count_labels(SimpleNamespace(metainfo={})) is None


def test_a_sample_is_spread_and_ends_early(tmp_path: Path) -> None:
    data = built('mmdet', **voc(write_voc(tmp_path, [*['a'] * 50, *['b'] * 50]), 'ab'))
    assert count_labels(data, {'objects': 4}).numbers.tolist() == [2, 1]  # 0, 25, 50: both were seen
    data = built('mmdet', **voc(tmp_path, 'abc'))
    found = count_labels(data, {'objects': 4})
    assert (found.counted, found.numbers.tolist()) == (4, [2, 2, 0])
    ((level, said, _),) = find_label_faults(found, TRAIN)
    assert level == 'warning' and 'no object of c in 4 of its 100 images' in said and 'doctor.py' in said


def test_a_sample_is_extended_if_only_one_class_occurred(tmp_path: Path) -> None:
    data = built('mmdet', **voc(write_voc(tmp_path, [*['a'] * 33, 'b', *['a'] * 6]), 'abc'))
    found = count_labels(data, {'objects': 4})
    assert found.numbers[1] == 1 and found.counted > 4
    only = count_labels(built('mmdet', **voc(write_voc(tmp_path, ['a'] * 40), 'abc')), {'objects': 4})
    assert only.counted == 40


# values in the maps, classes, reduce_zero_label -> level in training, message, advice
MAPS: dict[str, tuple[Any, ...]] = {
    'masks of a paint program': (
        ([0, 255], ('background', 'lesion'), False),
        'error',
        "no pixel of 'lesion'.*hold 0 and 255; expected are 0 .background., 1 .lesion.; ignored: 255",
        r'write 1 \(lesion\) into the maps where 255',
    ),
    'a mask of one class': (([0, 255], ('lesion',), False), 'warning', 'its single class', 'a second class'),
    'zero taken for ignored': (
        ([0, 1, 2, 3], 'abcd', True),
        'warning',
        "no pixel of 'd'.*hold 0 to 3; expected are 1 .a., 2 .b., 3 .c., 4 .d.; ignored: 0 and 255",
        r'reduce_zero_label=False.*if 0 is a class \(a\)',
    ),
    'zero taken for ignored, of two': (([0, 1], 'ab', True), 'error', "no pixel of 'b'", 'reduce_zero_label=False'),
    'a missing class': (
        ([0, 1], 'abc', False),
        'warning',
        "no pixel of 'c'.*hold 0 to 1",
        'correct the maps',
    ),
    'nothing but ignored': (([255], 'ab', False), 'error', 'no pixel of any class.*hold 255', '255 marks'),
}


@pytest.mark.parametrize('kind', list(MAPS))
def test_label_maps_in_training_and_by_the_doctor(kind: str, tmp_path: Path) -> None:
    (values, classes, reduce), level, said, advised = MAPS[kind]
    root = write_ade(tmp_path)
    rewrite(root, values)
    dataset = maps(root, classes, reduce)
    (found,) = find_label_faults(count_labels(built('mmseg', **dataset), {'pixels': 2}), TRAIN)
    assert found[0] == level
    cfg = Config(dict(default_scope='mmseg', train_dataloader=dict(dataset=dataset)))
    told = [each for each in check_data(TrainingSetup(cfg)) if each.level == level and 'label maps.' in each.found]
    assert [each.where for each in told] == [TRAIN]
    for text in (found[1], told[0].found):
        assert _matches(said, text)
    assert _matches(advised, found[2]) and _matches(advised, told[0].advice)


def _matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


@pytest.mark.parametrize(('reduce', 'values'), [(False, [0, 1, 2, 255]), (True, [0, 1, 2, 3])])
def test_correct_label_maps_raise_no_fault(reduce: bool, values: list[int], tmp_path: Path) -> None:
    root = write_ade(tmp_path)
    rewrite(root, values)
    assert not list(find_label_faults(count_labels(built('mmseg', **maps(root, 'abc', reduce))), TRAIN))


class Warned:
    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, text: str) -> None:
        self.said.append(text)


def run_hook(train: Any, val: Any = None, model: nn.Module | None = None) -> list[str]:
    loaders = dict(train_dataloader=SimpleNamespace(dataset=train), val_dataloader=SimpleNamespace(dataset=val))
    runner = SimpleNamespace(val_loop=val, logger=Warned(), model=model or nn.Identity(), **loaders)
    LabelCheckHook().before_train(runner)
    return runner.logger.said


def test_names_of_another_case(tmp_path: Path) -> None:
    """``<name>CAT</name>`` is not in ``classes=('cat',)``: an error with the names in the files."""
    write_voc(tmp_path, [['CAT'], ['CAT', 'DOG']])
    wrong = voc(tmp_path, ('cat', 'dog'))
    with pytest.raises(DataError, match=r"none of its 2 images.*\(cat, dog\).*named 'CAT', 'DOG'.*exactly as"):
        run_hook(built('mmdet', **wrong))
    with pytest.raises(DataError, match=r'val_dataloader.dataset: none of its 2 images'):
        run_hook(built('mmdet', **voc(tmp_path, ('CAT', 'DOG'))), built('mmdet', **wrong))
    (warned,) = run_hook(built('mmdet', **voc(tmp_path, ('CAT', 'dog'))))
    assert 'no object of dog in its 2 images' in warned and "'CAT', 'DOG'" in warned
    assert not run_hook(built('mmdet', **voc(tmp_path, ('CAT', 'DOG'))))


def test_a_label_that_only_the_data_set_ignores(tmp_path: Path) -> None:
    """Label 11 of CamVid with ignore_index=11 in the data set: torch has no class 11."""
    root = write_ade(tmp_path)
    rewrite(root, [0, 1, 11])
    dataset = maps(root, 'ab') | dict(ignore_index=11)
    model = nn.Module()
    model.decode_head = nn.Conv2d(1, 2, 1)
    model.decode_head.ignore_index = 255
    cfg = Config(dict(default_scope='mmseg', train_dataloader=dict(dataset=dataset)))
    with pytest.raises(IndexError, match='Target 11 is out of bounds'):
        nn.functional.cross_entropy(torch.zeros(1, 2), torch.tensor([11]), ignore_index=255)
    with pytest.raises(DataError, match=r'model.decode_head.ignore_index=255, but train_dataloader.dataset.ign'):
        run_hook(built('mmseg', **dataset), model=model)
    wrong = [
        each for each in check_data(TrainingSetup(cfg, model=model)) if each.where == 'model.decode_head.ignore_index'
    ]
    assert [each.level for each in wrong] == ['error']
    model.decode_head.ignore_index = 11
    assert not run_hook(built('mmseg', **dataset), model=model)


def test_a_custom_data_set_that_cannot_be_counted_stops_nothing() -> None:
    class Own:
        def __init__(self) -> None:
            self.metainfo = dict(classes=('a', 'b'))

        def __len__(self) -> int:
            return 2

        def get_data_info(self, i: int) -> dict[str, Any]:
            return dict(instances=[dict(bbox=[1])])

    (warned,) = run_hook(Own())
    assert warned.startswith('train_dataloader.dataset: its labels could not be counted')


def test_a_filter_that_leaves_nothing(tmp_path: Path) -> None:
    """mmengine alone fails with numpy's "need at least one array to concatenate"."""
    filtered = voc(write_voc(tmp_path, [['CAT']]), ('cat',), filter_cfg=dict(filter_empty_gt=True))
    with pytest.raises(ValueError, match='at least one array'):
        built('mmdet', **filtered)
    patch_empty_data_sets()
    said = r"train.txt.*no image is left with filter_cfg=.*\(cat\).*named 'CAT'"
    with pytest.raises(DataError, match=said):
        built('mmdet', **filtered)
    cfg = Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=filtered)))
    assert any(each.level == 'error' and _matches(said, each.found) for each in check_data(TrainingSetup(cfg)))


def test_a_folder_without_such_images(tmp_path: Path) -> None:
    patch_empty_data_sets()
    with pytest.raises(DataError, match=r'BaseSegDataset.*images/training.*it has no image.*suffixes'):
        built('mmseg', **maps(write_ade(tmp_path), 'abc') | dict(img_suffix='.tif'))


def test_boxes_without_area_are_reported_and_not_counted(tmp_path: Path) -> None:
    write_voc(tmp_path, [['a', 'a'], ['a']])
    path = tmp_path / 'Annotations/1.xml'
    path.write_text(path.read_text().replace('<xmax>9', '<xmax>2'))
    found = count_labels(built('mmdet', **voc(tmp_path, 'a')))
    assert found.numbers.tolist() == [2]
    ((level, said, advice),) = find_label_faults(found, TRAIN)
    assert level == 'warning' and said.endswith('1.jpg') and 'bbox_min_size' in advice


def test_through_train_py(tmp_path: Path) -> None:
    """Masks of 0 and 255 would train to a perfect score; a conflict about label 0 would fail in mmseg."""
    path = write_config('fcn', tmp_path)
    rewrite(tmp_path / 'ade', [0, 255])
    text = path.read_text().replace('reduce_zero_label=True', 'reduce_zero_label=False')
    path.write_text(text)
    with pytest.raises(SystemExit, match=r"error: train_dataloader.dataset: no pixel of 'b', 'c'.*hold 0 and 255"):
        train_tool.main([str(path), '--work-dir', str(tmp_path / 'run')])
    assert not list((tmp_path / 'run').glob('*.pth'))
    path.write_text(text.replace("png', reduce_zero_label=False", "png', reduce_zero_label=True"))
    with pytest.raises(SystemExit, match=r'train_dataloader.dataset.reduce_zero_label=True, but LoadAnn.*says False'):
        train_tool.main([str(path), '--work-dir', str(tmp_path / 'run')])


@pytest.mark.skipif(not (DATA / 'bccd').is_dir(), reason='BCCD is not here')
def test_bccd() -> None:
    root, there, flat = DATA / 'bccd', Counter[str](), []
    for name in (root / 'ImageSets/Main/val.txt').read_text().split():
        for each in ET.parse(root / f'Annotations/{name}.xml').getroot().iter('object'):
            box = each.find('bndbox')
            if box.findtext('xmin') == box.findtext('xmax') or box.findtext('ymin') == box.findtext('ymax'):
                flat.append(name)
            else:
                there[each.findtext('name')] += 1
    names = ('RBC', 'WBC', 'Platelets')
    found = count_labels(built('mmdet', **voc(root, names) | dict(ann_file='ImageSets/Main/val.txt')))
    assert found.numbers.tolist() == [there[name] for name in names]
    assert [Path(path).stem for path in found.empty_boxes] == flat == ['BloodImage_00338']


@pytest.mark.skipif(not (DATA / 'camvid').is_dir(), reason='CamVid is not here')
def test_camvid() -> None:
    root, pixels = DATA / 'camvid', np.zeros(256, int)
    for path in (root / 'labels/val').iterdir():
        pixels += np.bincount(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ravel(), minlength=256)
    dataset = maps(root, [f'class {i}' for i in range(12)])
    dataset['data_prefix'] = dict(img_path='images/val', seg_map_path='labels/val')
    assert count_labels(built('mmseg', **dataset)).numbers.tolist() == pixels[:12].tolist()
