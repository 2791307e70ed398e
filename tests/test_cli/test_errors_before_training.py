"""Configs of the hosts on a small data set: train.py reports errors before the run that would end it later."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.runner import Runner

from protuning_mm.cli import test as test_tool
from protuning_mm.cli import train as train_tool
from tests.mini import write_ade, write_coco, write_config

LOADERS = """
load = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**load, dataset=dict({train}))
val_dataloader = dict(**load, dataset=dict({val}))
test_dataloader = val_dataloader
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, '_log_env', lambda self, cfg: None)  # takes seconds: runs compilers


def error_of(config: Path, *flags: str) -> str:
    """Return the error with which train.py exits before the first iteration."""
    with pytest.raises(SystemExit) as caught:
        train_tool.main([str(config), '--work-dir', str(config.parent / 'run'), *flags])
    message = str(caught.value)
    assert message.startswith('error: ') and '\n' not in message and 'site-packages' not in message
    return message


def classifier(folder: Path, extra: str = '') -> Path:
    for split in ('train', 'val'):
        for name in ('cat', 'cow', 'dog'):
            path = folder / split / name
            path.mkdir(parents=True)
            cv2.imwrite(str(path / '0.jpg'), np.full((40, 40, 3), 90, np.uint8))
    own = "_delete_=True, type='CustomDataset', data_root={!r}, pipeline=[dict(type='LoadImageFromFile'), "
    own += "dict(type='ResizeEdge', scale=32), dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]"
    text = "_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'\n"
    loaders = {split: own.format(str(folder / split)) for split in ('train', 'val')}
    path = folder / 'classifier.py'
    path.write_text(text + LOADERS.format(**loaders) + extra)
    return path


HEAD = 'model = dict(head=dict(num_classes=3))\n'


def test_top_5_of_three_classes(tmp_path: Path) -> None:
    """mmpretrain's default evaluator, in a config without our hooks."""
    message = error_of(classifier(tmp_path, HEAD))
    assert 'topk=(1, 5), but val_dataloader.dataset has 3 classes' in message and 'val_evaluator.topk=(1,)' in message
    assert not list((tmp_path / 'run').glob('*.pth'))


@pytest.mark.slow
def test_top_5_of_three_classes_before_a_test(tmp_path: Path) -> None:
    import torch

    config = classifier(tmp_path, HEAD)
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    with pytest.raises(SystemExit, match=r'error: test_evaluator: Accuracy .*set test_evaluator.topk=\(1,\)'):
        test_tool.main([str(config), str(tmp_path / 'empty.pth'), '--work-dir', str(tmp_path / 'run')])


@pytest.mark.slow
@pytest.mark.parametrize(
    ('extra', 'key'),
    [
        ('', 'model.head.num_classes=1000'),
        (HEAD + "model['head']['loss'] = dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=1000)\n",
         'model.head.loss.num_classes=1000'),
        (HEAD + 'data_preprocessor = dict(to_onehot=True)\n', 'data_preprocessor.num_classes=1000'),
    ],
)  # fmt: skip
def test_number_of_classes_of_a_classifier(extra: str, key: str, tmp_path: Path) -> None:
    message = error_of(classifier(tmp_path, extra))
    assert f'{key}, but train_dataloader.dataset has 3 classes (cat, cow, dog)' in message
    assert f'set {key.replace("1000", "3")}' in message


SEGMENTOR = """
_base_ = 'mmseg::fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py'
model = dict(
    pretrained=None, backbone=dict(_delete_=True, type='ResNetV1c', depth=18, base_channels=8),
    decode_head=dict(in_channels=64, channels=8, num_classes=DECODE),
    auxiliary_head=dict(in_channels=32, channels=8, num_classes=AUXILIARY))
"""


@pytest.mark.parametrize(
    ('decode', 'auxiliary', 'head'),
    [pytest.param(150, 3, 'decode_head', marks=pytest.mark.slow), (3, 150, 'auxiliary_head')],
)
def test_number_of_classes_of_a_segmentor(decode: int, auxiliary: int, head: str, tmp_path: Path) -> None:
    root = write_ade(tmp_path / 'ade')
    own = f"type='BaseSegDataset', data_root='{root}', metainfo=dict(classes=('a', 'b', 'c')), img_suffix='.jpg', "
    own += "seg_map_suffix='.png', reduce_zero_label=True"
    text = SEGMENTOR.replace('DECODE', str(decode)).replace('AUXILIARY', str(auxiliary))
    path = tmp_path / 'segmentor.py'
    path.write_text(text + LOADERS.format(train=own, val=own))
    message = error_of(path)
    assert f'model.{head}.num_classes=150, but train_dataloader.dataset has 3 classes (a, b, c)' in message


DETECTOR = """
_base_ = 'mmdet::BASE'
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=18, base_channels=8), neck=dict(in_channels=[8, 16, 32, 64]))
val_evaluator = dict(ann_file='ROOT/annotations/instances_val2017.json')
test_evaluator = val_evaluator
"""
BOX = "model['roi_head'] = dict(bbox_head=dict(num_classes=3), mask_head=dict(num_classes={}))\n"


def detector(base: str, folder: Path, extra: str) -> Path:
    root = write_coco(folder / 'coco')
    own = f"data_root='{root}', metainfo=dict(classes=('a', 'b', 'c'))"
    path = folder / 'detector.py'
    text = DETECTOR.replace('BASE', base).replace('ROOT', str(root)) + LOADERS.format(train=own, val=own)
    path.write_text(text + extra)
    return path


@pytest.mark.parametrize(
    ('extra', 'key'),
    [
        pytest.param('', 'roi_head.bbox_head.num_classes=80', marks=pytest.mark.slow),
        (BOX.format(80), 'roi_head.mask_head.num_classes=80'),
    ],
)
def test_number_of_classes_of_a_detector(extra: str, key: str, tmp_path: Path) -> None:
    message = error_of(detector('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', tmp_path, extra))
    assert f'model.{key}, but train_dataloader.dataset has 3 classes (a, b, c)' in message
    assert f'set model.{key.replace("80", "3")}' in message


def test_number_of_classes_of_stuff_maps(tmp_path: Path) -> None:
    """HTC's semantic head learns from stuff maps, which have the labels 0 to 2 and 100 here."""
    path = write_config('htc', tmp_path, "model['roi_head']['semantic_head']['num_classes'] = 100\n")
    message = error_of(path)
    assert 'model.roi_head.semantic_head.num_classes=100' in message and 'has the label 100' in message
    assert str(tmp_path / 'coco/stuffthingmaps/train2017') in message


@pytest.mark.slow
def test_best_checkpoint_by_an_unknown_metric(tmp_path: Path) -> None:
    extra = BOX.format(3) + "default_hooks = dict(checkpoint=dict(save_best='bbox_mAP'))\n"
    message = error_of(detector('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', tmp_path, extra))
    assert "set default_hooks.checkpoint.save_best='coco/bbox_mAP'" in message


@pytest.mark.slow
def test_masks_of_a_box_detector(tmp_path: Path) -> None:
    extra = "model['bbox_head'] = dict(num_classes=3)\nval_evaluator['metric'] = ['bbox', 'segm']\n"
    message = error_of(detector('retinanet/retinanet_r50_fpn_1x_coco.py', tmp_path, extra))
    assert "the model predicts no masks: set val_evaluator.metric='bbox'" in message
