"""``--data``: every fault of a data set is found and counted, and a correct data set gives no warning."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from protuning_mm.doctor.coco_dataset import compute_mask_area
from protuning_mm.doctor.host_dataset import check_host_dataset
from protuning_mm.doctor.images import inspect_image, pick_evenly
from tests.classification_data import without_checksums, write_cifar
from tests.test_doctor.doctor_runs import MiniConfigs, finding_at, run_doctor, severe

TRAIN = 'train_dataloader.dataset'


@pytest.fixture
def coco(mini: MiniConfigs, tmp_path: Path) -> tuple[Path, Path]:
    """Return a config and a copy of its data set."""
    return _copy_data(mini, 'htc', 'coco', tmp_path)


@pytest.fixture
def ade(mini: MiniConfigs, tmp_path: Path) -> tuple[Path, Path]:
    return _copy_data(mini, 'upernet', 'ade', tmp_path)


def _copy_data(mini: MiniConfigs, model: str, name: str, folder: Path) -> tuple[Path, Path]:
    base = mini.base(model)
    root = Path(shutil.copytree(base.parent / name, folder / name))
    config = folder / f'{name}.py'
    config.write_text(base.read_text().replace(str(base.parent / name), str(root)))
    return config, root


def _edit(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = root / 'annotations/instances_train2017.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_correct_data_gives_no_warning(coco: tuple[Path, Path], ade: tuple[Path, Path]) -> None:
    for config, _ in (coco, ade):
        findings = run_doctor(config, '--data')
        assert not severe(findings)
        assert finding_at(findings, TRAIN).found.startswith('4 images (4 decoded')
    assert finding_at(run_doctor(coco[0], '--data'), TRAIN).found.endswith('12 objects')


def test_data_is_not_checked_without_the_flag(coco: tuple[Path, Path]) -> None:
    config, root = coco
    (root / 'train2017/0.jpg').unlink()
    assert not severe(run_doctor(config))
    shutil.rmtree(root)
    findings = run_doctor(config)
    assert not severe(findings) and '--data' in finding_at(findings, 'data_root').advice
    errors = [f for f in run_doctor(config, '--data') if f.level == 'error']
    assert errors and all(f.found.endswith(('no such folder', 'no such file')) for f in errors)


def _box(box: list[Any], **more: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content['annotations'][0].update(bbox=box, **more)


def _mask(mask: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content['annotations'][0].update(segmentation=mask)


def _copy_of_first(content: dict[str, Any]) -> None:
    content['annotations'].append(content['annotations'][0])


ANNOTATIONS = {
    'outside': (_box([100, 10, 60, 20]), 'warning', 'extend beyond their image', '[100, 10, 60, 20]'),
    'negative start': (_box([-20, 10, 60, 20]), 'warning', 'extend beyond their image', '[-20, 10, 60, 20]'),
    'zero width': (_box([10, 10, 0, 20]), 'warning', 'no area', '[10, 10, 0, 20]'),
    'negative height': (_box([10, 10, 5, -20]), 'warning', 'no area', '[10, 10, 5, -20]'),
    'zero area': (_box([10, 10, 5, 5], area=0), 'warning', 'no area', 'annotation 1'),
    'nan': (_box([float('nan'), 10, 5, 20]), 'error', 'finite', 'nan'),
    'three numbers': (_box([1, 2, 3]), 'error', 'finite', '[1, 2, 3]'),
    'no mask': (_mask([]), 'error', 'no segmentation', 'annotation id 1'),
    'two points': (_mask([[1, 1, 9, 9]]), 'error', 'polygon of 2 points', 'annotation id 1'),
    'a line': (_mask([[1, 1, 5, 5, 9, 9]]), 'warning', 'masks are empty', 'annotation 1 of 0.jpg'),
    'runs': (_mask(dict(size=[96, 128], counts=[96 * 128])), 'warning', 'masks are empty', 'annotation 1 of 0.jpg'),
    'same id': (_copy_of_first, 'error', 'another annotation has this id', 'id 1'),
    'image id': (lambda c: c['annotations'][0].update(image_id=99), 'warning', 'image_id', 'annotation 1'),
    'category id': (lambda c: c['annotations'][0].update(category_id=99), 'warning', 'category_id', 'annotation 1'),
    'height': (lambda c: c['images'][1].update(height=200), 'error', 'another size', 'file, 200x128 annotated'),
}  # fmt: skip


@pytest.mark.parametrize('fault', ANNOTATIONS)
def test_annotations(fault: str, coco: tuple[Path, Path]) -> None:
    change, level, text, entry = ANNOTATIONS[fault]
    config, root = coco
    _edit(root, change)
    found = severe(run_doctor(config, '--data'))
    assert len(found) == 1, found
    assert (found[0].level, found[0].where) == (level, TRAIN)
    assert found[0].found.startswith('1 ') and text in found[0].found and entry in found[0].found
    assert found[0].advice


def test_height_and_width_are_swapped(coco: tuple[Path, Path]) -> None:
    config, root = coco
    _edit(root, lambda content: content['images'][1].update(height=128, width=96))
    found = next(f for f in run_doctor(config, '--data') if 'another size' in f.found)
    assert (
        found.level == 'error'
        and '96x128 in the file, 128x96 annotated: the image has no EXIF orientation' in found.found
    )


def test_entries_that_our_evaluation_completes(coco: tuple[Path, Path]) -> None:
    config, root = coco

    def change(content: dict[str, Any]) -> None:
        for i, annotation in enumerate(content['annotations']):
            annotation['id'] = i
        del content['annotations'][5]['iscrowd']

    _edit(root, change)
    findings = run_doctor(config, '--data')
    assert not severe(findings)
    (found,) = (f for f in findings if 'iscrowd' in f.found)
    assert (found.level, found.where) == ('info', TRAIN)
    assert found.found.startswith('2 annotations') and found.found.endswith('annotation 0, annotation 5')


def test_many_faults_are_counted_and_the_first_named(coco: tuple[Path, Path]) -> None:
    config, root = coco

    def change(content: dict[str, Any]) -> None:
        for annotation in content['annotations']:
            annotation['bbox'][0] = 120  # partly outside

    _edit(root, change)
    found = severe(run_doctor(config, '--data'))
    assert [f.found.split(' ')[0] for f in found] == ['12'] and found[0].found.endswith('and 9 more')


def test_missing_masks_of_a_run_without_masks(coco: tuple[Path, Path]) -> None:
    config, root = coco
    _edit(root, _mask([]))
    extra = "\ntrain_dataloader['dataset']['pipeline'] = [dict(type='LoadAnnotations', with_bbox=True)]\n"
    config.write_text(config.read_text() + extra)
    assert not severe(run_doctor(config, '--data'))


def test_annotation_file_is_not_json_or_not_coco(coco: tuple[Path, Path]) -> None:
    config, root = coco
    path = root / 'annotations/instances_train2017.json'
    path.write_text('{"images": [')
    assert 'is not JSON' in finding_at(run_doctor(config, '--data'), f'{TRAIN}.ann_file').found
    path.write_text('{"images": [], "annotations": []}')
    assert "not in COCO's layout" in finding_at(run_doctor(config, '--data'), f'{TRAIN}.ann_file').found


def test_classes_that_are_not_categories(coco: tuple[Path, Path]) -> None:
    config, _ = coco
    config.write_text(config.read_text().replace("classes = ('a', 'b', 'c')", "classes = ('a', 'b', 'dog')"))
    found = finding_at(run_doctor(config, '--data'), f'{TRAIN}.metainfo.classes')
    assert found.level == 'error' and 'dog' in found.found and "classes=('a', 'b', 'c'" in found.advice


def _truncate(path: Path) -> None:
    # noise hardly compresses: half of the file is about half of the image
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


IMAGES: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    'missing': (lambda path: path.unlink(), 'error', 'have no file'),
    'empty': (lambda path: path.write_bytes(b''), 'error', 'cannot be decoded'),
    'text': (lambda path: path.write_text('<html>'), 'error', 'cannot be decoded'),
    'truncated': (_truncate, 'warning', 'cut off'),
}


@pytest.mark.parametrize('kind', ['coco', 'ade'])
@pytest.mark.parametrize('fault', IMAGES)
def test_images(fault: str, kind: str, request: pytest.FixtureRequest) -> None:
    if (fault, kind) == ('missing', 'ade'):
        pytest.skip("data sets in ADE20K's layout list only images that exist")
    damage, level, text = IMAGES[fault]
    config, root = request.getfixturevalue(kind)
    path = root / ('train2017/2.jpg' if kind == 'coco' else 'images/training/2.jpg')
    damage(path)
    found = severe(run_doctor(config, '--data'))
    assert [(f.level, f.where) for f in found] == [(level, TRAIN)]
    assert found[0].found.startswith('1 images') and text in found[0].found and str(path) in found[0].found


def test_images_that_are_not_decoded_must_exist(coco: tuple[Path, Path]) -> None:
    config, root = coco
    (root / 'train2017/3.jpg').unlink()
    (root / 'train2017/1.jpg').write_bytes(b'')
    found = run_doctor(config, '--data', '--max-images', '1')
    assert [f.found for f in severe(found)] == [f'1 images in the annotations have no file: {root / "train2017/3.jpg"}']
    assert '4 images (1 decoded)' in str(found)


MAPS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    'missing': (lambda path: path.unlink(), 'error', 'have no file'),
    'damaged': (lambda path: path.write_bytes(b'no image'), 'error', 'cannot be loaded'),
    'small': (lambda path: cv2.imwrite(str(path), np.ones((48, 64), np.uint8)), 'error', '48x64, image 96x128'),
    'labels': (
        lambda path: cv2.imwrite(str(path), np.full((96, 128), 200, np.uint8)),
        'error',
        'nor the ignored label',
    ),
    'empty': (lambda path: cv2.imwrite(str(path), np.full((96, 128), 255, np.uint8)), 'warning', 'are empty'),
}


@pytest.mark.parametrize('kind', ['coco', 'ade'])
@pytest.mark.parametrize('fault', MAPS)
def test_label_maps(fault: str, kind: str, request: pytest.FixtureRequest) -> None:
    damage, level, text = MAPS[fault]
    config, root = request.getfixturevalue(kind)
    # 183 stuff classes of COCO, or three classes of the segmentor
    path = root / ('stuffthingmaps/train2017/2.png' if kind == 'coco' else 'annotations/training/2.png')
    damage(path)
    found = severe(run_doctor(config, '--data'))
    assert [(f.level, f.where) for f in found] == [(level, TRAIN)]
    assert found[0].found.startswith('1 label maps') and text in found[0].found and str(path) in found[0].found


def test_label_zero_without_reduce_zero_label(ade: tuple[Path, Path]) -> None:
    """The maps hold 0 to 3 for three classes: without reduce_zero_label, label 3 is not a class."""
    config, _ = ade
    config.write_text(config.read_text().replace('reduce_zero_label=True', 'reduce_zero_label=False'))
    found = [f for f in severe(run_doctor(config, '--data')) if f.where == TRAIN]
    assert [f.level for f in found] == ['error']
    assert '4 label maps' in found[0].found and 'labels 3; 3 classes' in found[0].found
    assert 'reduce_zero_label' in found[0].advice


CLASSIFIER = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier', backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=64, loss=dict(type='CrossEntropyLoss')))
train_dataloader = dict(batch_size=2, dataset=dict(
    type='CustomDataset', data_root='ROOT', pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=64)]))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
"""


@pytest.mark.parametrize('classes', [2, 5])
def test_image_folders_of_a_classifier(classes: int, tmp_path: Path) -> None:
    for i, name in enumerate(('cat', 'dog')):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for j in range(2):
            cv2.imwrite(str(tmp_path / 'data' / name / f'{j}.jpg'), np.full((64, 64, 3), 90 * i, np.uint8))
    config = tmp_path / 'config.py'
    config.write_text(CLASSIFIER.replace('CLASSES', str(classes)).replace('ROOT', str(tmp_path / 'data')))
    findings = run_doctor(config, '--data', step=True)
    assert '4 images (4 decoded)' in finding_at(findings, TRAIN).found
    wrong = [f for f in findings if f.where == 'model.head.num_classes']
    assert [f.level for f in wrong] == ([] if classes == 2 else ['error'])
    assert not [f for f in findings if 'not determined' in f.found]
    (tmp_path / 'data/cat/0.jpg').write_bytes(b'')
    assert 'cat/0.jpg' in str(run_doctor(config, '--data'))


def test_size_follows_exif_orientation_as_in_opencv(tmp_path: Path) -> None:
    image = Image.new('RGB', (60, 40))
    exif = image.getexif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        path = tmp_path / f'{orientation}.jpg'
        image.save(path, exif=exif)
        assert inspect_image(path) == (None, cv2.imread(str(path)).shape[:2])


def test_mask_area() -> None:
    from pycocotools import mask as coco_mask

    square = np.zeros((20, 20), np.uint8, order='F')
    square[5:10, 5:15] = 1
    compressed = coco_mask.encode(square)
    assert compute_mask_area(compressed) == 50
    assert compute_mask_area(dict(size=[20, 20], counts=[105, 5] + [15, 5] * 9 + [105])) == 50
    assert compute_mask_area([[5, 5, 15, 5, 15, 10, 5, 10]]) == 50


def test_pick_evenly() -> None:
    assert pick_evenly(list(range(10)), 3) == [0, 3, 6]
    assert pick_evenly([1, 2], 3) == [1, 2] and pick_evenly([1, 2], None) == [1, 2]


def test_classes_in_another_order_than_in_the_file(coco: tuple[Path, Path]) -> None:
    """Expected class numbers come from mmdet's own data set."""
    from mmdet.datasets import CocoDataset

    config, root = coco
    _edit(root, lambda content: content['categories'].reverse())
    found = next(f for f in severe(run_doctor(config, '--data')) if f.where == f'{TRAIN}.metainfo.classes')
    assert found.level == 'warning' and "class 0 is 'a'" in found.found and found.advice == "classes=('c', 'b', 'a')"
    data = CocoDataset(
        data_root=str(root),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/'),
        metainfo=dict(classes=('a', 'b', 'c')),
    )
    content = json.loads((root / 'annotations/instances_train2017.json').read_text())
    names = {c['id']: c['name'] for c in content['categories']}
    assert [names[id_] for id_ in data.cat_ids] == ['c', 'b', 'a'] != list(data.metainfo['classes'])


def test_images_that_share_a_file(tmp_path: Path) -> None:
    """CIFAR's images have no path of their own: they are counted, and their labels are checked."""
    without_checksums()
    cifar = dict(type='CIFAR10', data_root=str(write_cifar(tmp_path)), split='test', download=False)
    setup = SimpleNamespace(scope='mmpretrain', model=None)
    (found,) = check_host_dataset(setup, 'test', cifar, None, set())
    assert (found.level, found.found) == ('info', '20 images without files of their own: none decoded')
    few = dict(cifar, metainfo=dict(classes=('a', 'b', 'c')))
    wrong, _ = check_host_dataset(setup, 'test', few, None, set())
    assert wrong.level == 'error' and '14 ' in wrong.found and 'image ' in wrong.found
