"""The doctor's checks of evaluators, with and without data, and trial steps that fail on noise."""

import json
from pathlib import Path
from typing import Any

import pytest

from protuning_mm.doctor.findings import describe_error
from tests.mini import REPO, write_backbone, write_classifier, write_coco
from tests.test_doctor.doctor_runs import MiniConfigs, finding_at, run_doctor, severe

VAL = """
val_dataloader = dict(batch_size=1, dataset=dict(
    type='CustomDataset', data_root='nowhere', metainfo=dict(classes=('cat', 'cow', 'dog')), pipeline=pipeline))
val_cfg = dict()
val_evaluator = dict(type='Accuracy', topk=(1, 5))
"""


def test_top_5_of_three_classes_without_data(tmp_path: Path) -> None:
    weights = write_backbone(tmp_path / 'resnet18.pth', 'mmpretrain', stem_channels=8)
    config = write_classifier(tmp_path / 'classifier.py', weights, VAL)
    found = finding_at(run_doctor(config), 'val_evaluator')
    assert found.level == 'error' and 'has 3 classes: set val_evaluator.topk=(1,)' in found.found
    config.write_text(config.read_text() + "val_evaluator['topk'] = (1, 3)\n")
    assert not severe(run_doctor(config))


@pytest.mark.parametrize(
    ('extra', 'where', 'text'),
    [
        ("val_evaluator = dict(iou_metrics=['IoU'])\n", 'val_evaluator', "metrics ['IoU'] is not supported"),
        ("default_hooks['checkpoint']['save_best'] = 'miou'\n", 'default_hooks.checkpoint.save_best', 'no metric'),
        ("val_evaluator = dict(type='IouMetric')\n", 'val_evaluator', ''),
    ],
)
def test_evaluator_of_a_segmentor_without_data(extra: str, where: str, text: str, mini: MiniConfigs) -> None:
    findings = run_doctor(mini('fcn', extra))
    if not text:  # without data, an unknown evaluator is not built
        assert not severe(findings)
        assert 'IouMetric is not in' in finding_at(run_doctor(mini('fcn', extra), '--data'), where).found
        return
    found = finding_at(findings, where)
    assert found.level == 'error' and text in found.found


def test_evaluator_of_a_detector_with_data(mini: MiniConfigs) -> None:
    extra = "val_evaluator['outfile_prefix'] = 'results/of'\ndefault_hooks['checkpoint']['save_best'] = 'bbox_mAP'\n"
    config = mini('cascade', extra)
    found = finding_at(run_doctor(config, '--data'), 'default_hooks.checkpoint.save_best')
    assert found.level == 'error' and found.advice.endswith("'coco/bbox_mAP'")
    assert not severe(run_doctor(config)) and not Path('results').exists()
    assert not severe(run_doctor(mini('cascade', extra.replace("'bbox_mAP", "'coco/bbox_mAP")), '--data'))


@pytest.mark.slow
def test_wrong_num_classes_is_reported_once(mini: MiniConfigs) -> None:
    """The evaluator, which would fail too, is not tried."""
    extra = "for loader in (train_dataloader, val_dataloader):\n    loader['dataset']['metainfo'] = TWO\n"
    findings = run_doctor(mini('cascade', extra.replace('TWO', "dict(classes=('a', 'b'))")), '--data')
    assert {f.where.split('.')[-1] for f in findings if f.level == 'error'} == {'num_classes'}


@pytest.mark.slow
def test_metric_without_fake_predictions_is_reported(mini: MiniConfigs) -> None:
    extra = "val_evaluator = [dict(type='CocoMetric', **val_evaluator), dict(type='DumpProposals', output_dir='no')]\n"
    found = finding_at(run_doctor(mini('cascade', extra), '--data'), 'val_evaluator.1')
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
def test_trial_step_of_host_configs(text: str, tmp_path: Path) -> None:
    """RTMDet fails on noise batches with masks, and Sparse R-CNN without initialized boxes."""
    config = tmp_path / 'config.py'
    config.write_text(text)
    findings = run_doctor(config, step=True)
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


def test_trial_step_on_the_training_set_after_noise_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RTMDet's own pipeline, with CachedMosaic and CachedMixUp, with images of a seventh of the size."""
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
    findings = run_doctor(config, *options, step=True)
    assert not [f for f in findings if 'not determined' in f.found], findings
    for path in (root / 'train2017').iterdir():
        path.unlink()
    (root / 'train2017').rmdir()
    (found,) = [f for f in run_doctor(config, *options, step=True) if 'not determined' in f.found]
    assert 'on noise: RuntimeError: noise.; the training set is missing' in found.found
    assert '/opt' not in found.found and 'PyTorch' not in found.found


def test_errors_without_paths_of_installed_libraries() -> None:
    import mmdet

    inside = str(Path(mmdet.__file__))
    messages: dict[str, Any] = {
        f"cannot import name 'X' from 'mmdet' ({inside})": "cannot import name 'X' from 'mmdet'",
        'class `FasterRCNN` in mmdet/models/detectors/faster_rcnn.py: no depth 51': 'class `FasterRCNN`: no depth 51',
        f'bad value at {inside}:12 in x': 'bad value in x',
        'file "/home/me/configs/no.py" does not exist': 'file "/home/me/configs/no.py" does not exist',
        f"'{REPO}/data/a.jpg' cannot be decoded": f"'{REPO}/data/a.jpg' cannot be decoded",
    }
    for text, expected in messages.items():
        assert describe_error(ValueError(text)) == f'ValueError: {expected}'
    worker = (
        f'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback:\n  File "{inside}", line 3\nno luck'
    )
    assert describe_error(ValueError(worker)) == 'ValueError: no luck'


@pytest.mark.slow
def test_evaluator_with_another_annotation_file(mini: MiniConfigs, tmp_path: Path) -> None:
    """The validation set is correct, but the evaluator reads another file."""
    content = json.loads((mini.base('cascade').parent / 'coco/annotations/instances_val2017.json').read_text())
    for image in content['images']:
        image['id'] += 50
    for annotation in content['annotations']:
        annotation['image_id'] += 50
    (tmp_path / 'other.json').write_text(json.dumps(content))
    extra = f"val_evaluator['ann_file'] = '{tmp_path / 'other.json'}'\n"
    found = finding_at(run_doctor(mini('cascade', extra), '--data'), 'val_evaluator')
    assert found.level == 'error' and 'images of val_dataloader.dataset are not in its ann_file' in found.found
