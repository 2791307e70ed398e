"""The hosts' own configs with a backbone that follows another, shrunken, through tools/train.py."""

from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

from protuning_mm.cli import train as train_tool
from tests.classification_data import write_image
from tests.mini import write_backbone, write_coco
from tests.plain import assert_identical

OURS = """
custom_imports = dict(imports=['protuning_mm'], allow_failed_imports=False)
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', constructor='protuning_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
default_hooks = dict(
    checkpoint=dict(_delete_=True, type='protuning_mm.CheckpointHook', by_epoch=False, interval=2),
    logger=dict(interval=1), tuning=dict(type='protuning_mm.TuningHook'),
    audit=dict(type='protuning_mm.FrozenAuditHook'), resume=dict(type='protuning_mm.ExactResumeHook'))
backbone = dict(
    _delete_=True, type='protuning_mm.ProTunedResNet', depth=18, base_channels=8, OUT
    init_cfg=dict(type='Pretrained', checkpoint='BASE'))
load = dict(num_workers=0, persistent_workers=False)
param_scheduler = None
"""
SOFT_TEACHER = (
    "_base_ = 'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'\n"
    + OURS.replace('OUT', '')
    + """
model = dict(
    detector=dict(
        backbone=backbone,
        neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
        rpn_head=dict(in_channels=16, feat_channels=16),
        roi_head=dict(
            bbox_roi_extractor=dict(out_channels=16),
            bbox_head=dict(in_channels=16, fc_out_channels=32, num_classes=3)),
        train_cfg=dict(rpn_proposal=dict(max_per_img=30)), test_cfg=dict(rpn=dict(max_per_img=30))),
    semi_train_cfg=dict(jitter_times=2))
metainfo = dict(classes=('a', 'b', 'c'))
sup, unsup = _base_.labeled_dataset, _base_.unlabeled_dataset
scale = [(64, 48), (96, 72)]
for dataset in (sup, unsup):
    dataset.update(data_root='DATA', ann_file='annotations/instances_train2017.json', metainfo=metainfo)
sup.pipeline[2].scale = scale
for branch in ('unsup_teacher', 'unsup_student'):
    unsup.pipeline[2][branch][0].scale = scale
train_dataloader = dict(
    batch_size=2, **load, sampler=dict(batch_size=2, source_ratio=[1, 1]), dataset=dict(datasets=[sup, unsup]))
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (96, 72)
val_dataloader = dict(**load, dataset=dict(data_root='DATA', metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='DATA/annotations/instances_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_iters=4, val_interval=4)
custom_hooks = [dict(type='MeanTeacherHook', momentum=0.1)]
"""
)
NECK = 'neck=dict(in_channels=64, hid_channels=16, out_channels=8)'
SELF_SUPERVISED = (
    OURS.replace('OUT', "out_indices=(3,), norm_cfg=dict(type='BN'), stem_channels=8,")
    + """
pipeline = _base_.train_pipeline
for view in pipeline[1].transforms:
    view[0].scale = 32
# mmengine hands the scope of an inherited collate_fn on to the function
collate = dict(_delete_=True, type='default_collate')
train_dataloader = dict(batch_size=2, **load, collate_fn=collate, dataset=dict(
    _delete_=True, type='CustomDataset', data_root='DATA', with_label=False, pipeline=pipeline))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4)
"""
)
BYOL = (
    "_base_ = 'mmpretrain::byol/byol_resnet50_16xb256-coslr-200e_in1k.py'\n"
    + SELF_SUPERVISED
    + f'model = dict(base_momentum=0.1, backbone=backbone, {NECK},\n'
    'head=dict(predictor=dict(in_channels=8, hid_channels=16, out_channels=8)))\n'
)
MOCO = (
    "_base_ = 'mmpretrain::mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py'\n"
    + SELF_SUPERVISED
    + f'model = dict(queue_len=8, feat_dim=8, momentum=0.1, backbone=backbone, {NECK})\n'
)
EMA = "custom_hooks = [dict(type='EMAHook', ema_type='mmpretrain.CosineEMA', momentum=0.1)]\n"
# the config, the follower's and the leader's names
CASES = {
    'SoftTeacher': (SOFT_TEACHER, 'teacher.backbone.', 'student.backbone.'),
    'SoftTeacher and EMAHook': (
        SOFT_TEACHER + "custom_hooks += [dict(type='EMAHook', momentum=0.1)]\n",
        'teacher.backbone.',
        'student.backbone.',
    ),
    'BYOL': (BYOL, 'target_net.module.0.', 'backbone.'),
    'BYOL and EMAHook': (BYOL + EMA, 'target_net.module.0.', 'backbone.'),
    'MoCo': (MOCO, 'encoder_k.module.0.', 'backbone.'),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('name', list(CASES))
def test_trains_saves_and_resumes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The follower's frozen tensors are the file's, and its prompts are on their way to the leader's."""
    monkeypatch.setattr(Runner, '_log_env', lambda self, cfg: None)
    text, follower, leader = CASES[name]
    data = tmp_path / 'data'
    if 'SoftTeacher' in name:
        base = write_backbone(tmp_path / 'base.pth')
        write_coco(data)
    else:
        base = write_backbone(tmp_path / 'base.pth', 'mmpretrain', stem_channels=8)
        for i in range(4):
            write_image(data / f'{i}.jpg')
    config = tmp_path / 'mine.py'
    # an unseeded run of SoftTeacher once ended with a degenerate box in mmcv's RoIAlign
    config.write_text(text.replace('DATA', str(data)).replace('BASE', str(base)) + 'randomness = dict(seed=0)\n')
    plain = torch.load(base, weights_only=True)
    flags = [str(config), '--work-dir', str(tmp_path / 'run')]
    train_tool.main([*flags, '--cfg-options', 'train_cfg.max_iters=2'])
    train_tool.main([*flags, '--resume'])
    for number in (2, 4):
        state = torch.load(tmp_path / f'run/iter_{number}.pth', weights_only=False)['state_dict']
        theirs, ours = (
            {k.removeprefix(lead): v for k, v in state.items() if k.startswith(lead)} for lead in (leader, follower)
        )
        assert theirs.keys() == ours.keys()
        assert_identical(theirs, plain)
        assert_identical(ours, plain)
    assert any(not torch.equal(theirs[k], ours[k]) for k in ours if k.startswith('prompts.'))
