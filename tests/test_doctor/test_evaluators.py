"""What the doctor says of evaluators, with the data and without; and of trial steps that noise does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from protuning_mm.doctor.findings import first_line
from tests.mini import REPO, write_backbone, write_classifier, write_coco
from tests.test_doctor.examined import Mini, at, examined, grave

VAL = """
val_dataloader = dict(batch_size=1, dataset=dict(
    type='CustomDataset', data_root='nowhere', metainfo=dict(classes=('cat', 'cow', 'dog')), pipeline=pipeline))
val_cfg = dict()
val_evaluator = dict(type='Accuracy', topk=(1, 5))
"""


def test_top_5_of_three_classes_without_any_data(tmp_path: Path) -> None:
    weights = write_backbone(tmp_path / 'resnet18.pth', 'mmpretrain', stem_channels=8)
    config = write_classifier(tmp_path / 'classifier.py', weights, VAL)
    found = at(examined(config), 'val_evaluator')
    assert found.level == 'error' and 'has 3 classes: set val_evaluator.topk=(1,)' in found.found
    config.write_text(config.read_text() + "val_evaluator['topk'] = (1, 3)\n")
    assert not grave(examined(config))


@pytest.mark.parametrize(
    ('extra', 'where', 'said'),
    [
        ("val_evaluator = dict(iou_metrics=['IoU'])\n", 'val_evaluator', "metrics ['IoU'] is not supported"),
        ("default_hooks['checkpoint']['save_best'] = 'miou'\n", 'default_hooks.checkpoint.save_best', 'no metric'),
        ("val_evaluator = dict(type='IouMetric')\n", 'val_evaluator', ''),
    ],
)
def test_a_segmentor_s_evaluator_without_any_data(extra: str, where: str, said: str, mini: Mini) -> None:
    findings = examined(mini('fcn', extra))
    if not said:  # what a name of nothing is, is not known without the data
        assert not grave(findings)
        assert 'IouMetric is not in' in at(examined(mini('fcn', extra), '--data'), where).found
        return
    found = at(findings, where)
    assert found.level == 'error' and said in found.found


def test_a_detector_s_evaluator_on_its_data(mini: Mini) -> None:
    extra = "val_evaluator['outfile_prefix'] = 'results/of'\ndefault_hooks['checkpoint']['save_best'] = 'bbox_mAP'\n"
    config = mini('cascade', extra)
    found = at(examined(config, '--data'), 'default_hooks.checkpoint.save_best')
    assert found.level == 'error' and found.advice.endswith("'coco/bbox_mAP'")
    assert not grave(examined(config)) and not Path('results').exists()
    assert not grave(examined(mini('cascade', extra.replace("'bbox_mAP", "'coco/bbox_mAP")), '--data'))


@pytest.mark.slow
def test_heads_of_other_classes_are_told_once(mini: Mini) -> None:
    """The evaluator, which would fail too, is not tried then."""
    extra = "for loader in (train_dataloader, val_dataloader):\n    loader['dataset']['metainfo'] = TWO\n"
    findings = examined(mini('cascade', extra.replace('TWO', "dict(classes=('a', 'b'))")), '--data')
    assert {f.where.split('.')[-1] for f in findings if f.level == 'error'} == {'num_classes'}


@pytest.mark.slow
def test_a_metric_of_the_users_own_is_not_tried_and_told(mini: Mini) -> None:
    extra = "val_evaluator = [dict(type='CocoMetric', **val_evaluator), dict(type='DumpProposals', output_dir='no')]\n"
    found = at(examined(mini('cascade', extra), '--data'), 'val_evaluator.1')
    assert found.level == 'info' and 'DumpProposals is not tried' in found.found


RTMDET = """
_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
model = dict(
    backbone=dict(deepen_factor=0.1, widen_factor=0.125, init_cfg=None),
    neck=dict(in_channels=[32, 64, 128], out_channels=16), bbox_head=dict(in_channels=16, feat_channels=16))
"""
SPARSE = """
_base_ = 'mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=18, base_channels=8), neck=dict(in_channels=[8, 16, 32, 64]),
    rpn_head=dict(num_proposals=10),
    roi_head=dict(num_stages=2, stage_loss_weights=[1, 1], bbox_head=_base_.model.roi_head.bbox_head[:2]),
    train_cfg=dict(rcnn=_base_.model.train_cfg.rcnn[:2]))
"""


@pytest.mark.parametrize('text', [RTMDET, SPARSE])
def test_a_training_step_of_the_hosts_configs(text: str, tmp_path: Path) -> None:
    """Neither took the noise of before: masks in the one, boxes of no initial values in the other."""
    config = tmp_path / 'config.py'
    config.write_text(text)
    findings = examined(config, step=True)
    assert not [f for f in findings if 'not determined' in f.found or 'could not' in f.found], findings
    assert 'find_unused_parameters' not in {f.where for f in findings}


ODD = """
import torch
from mmdet.models import RTMDet
from mmengine.registry import MODELS

@MODELS.register_module(force=True)
class Picky(RTMDet):
    def loss(self, inputs, samples):
        if 'img_path' not in samples[0]:
            raise RuntimeError('noise at "/opt/venv/mmcv/ops/csrc/roi_align.cpp":138, please report a bug to PyTorch.')
        return super().loss(inputs, samples)
"""


def test_a_step_on_the_training_set_where_noise_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RTMDet's own pipeline, with CachedMosaic and CachedMixUp, at a seventh of its size."""
    root = write_coco(tmp_path / 'coco')
    (tmp_path / 'picky_model.py').write_text(ODD)
    monkeypatch.syspath_prepend(tmp_path)
    text = RTMDET + "model['type'] = 'Picky'\ncustom_imports = dict(imports=['picky_model'])\n"
    text += f"train_dataloader = dict(dataset=dict(data_root='{root}', metainfo=dict(classes=('a', 'b', 'c'))))\n"
    text += "model['bbox_head']['num_classes'] = 3\n"
    config = tmp_path / 'config.py'
    config.write_text(text)
    options = ('--cfg-options', *(f'train_dataloader.dataset.pipeline.{key}' for key in (
        '2.img_scale=(96,96)', '3.scale=(192,192)', '4.crop_size=(96,96)', '7.size=(96,96)', '8.img_scale=(96,96)',
    )))  # fmt: skip
    findings = examined(config, *options, step=True)
    assert not [f for f in findings if 'not determined' in f.found], findings
    for path in (root / 'train2017').iterdir():
        path.unlink()
    (root / 'train2017').rmdir()
    (found,) = [f for f in examined(config, *options, step=True) if 'not determined' in f.found]
    assert 'on noise: RuntimeError: noise.; the training set is not here' in found.found
    assert '/opt' not in found.found and 'PyTorch' not in found.found


def test_messages_name_no_file_of_installed_libraries() -> None:
    import mmdet

    inside = str(Path(mmdet.__file__))
    said: dict[str, Any] = {
        f"cannot import name 'X' from 'mmdet' ({inside})": "cannot import name 'X' from 'mmdet'",
        'class `FasterRCNN` in mmdet/models/detectors/faster_rcnn.py: no depth 51': 'class `FasterRCNN`: no depth 51',
        f'bad value at {inside}:12 in x': 'bad value in x',
        'file "/home/me/configs/no.py" does not exist': 'file "/home/me/configs/no.py" does not exist',
        f"'{REPO}/data/a.jpg' cannot be decoded": f"'{REPO}/data/a.jpg' cannot be decoded",
    }
    for text, expected in said.items():
        assert first_line(ValueError(text)) == f'ValueError: {expected}'
    worker = (
        f'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback:\n  File "{inside}", line 3\nno luck'
    )
    assert first_line(ValueError(worker)) == 'ValueError: no luck'


@pytest.mark.slow
def test_annotations_that_the_evaluator_reads_alone(mini: Mini, tmp_path: Path) -> None:
    """The data set of validation is sound, and the evaluator's file another."""
    content = json.loads((mini.base('cascade').parent / 'coco/annotations/instances_val2017.json').read_text())
    for image in content['images']:
        image['id'] += 50
    for annotation in content['annotations']:
        annotation['image_id'] += 50
    (tmp_path / 'other.json').write_text(json.dumps(content))
    extra = f"val_evaluator['ann_file'] = '{tmp_path / 'other.json'}'\n"
    found = at(examined(mini('cascade', extra), '--data'), 'val_evaluator')
    assert found.level == 'error' and 'images of val_dataloader.dataset are not in its ann_file' in found.found
