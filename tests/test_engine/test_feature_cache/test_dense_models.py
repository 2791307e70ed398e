"""Segmentors and a detector on stored features, if their pipelines give images of one size."""

from pathlib import Path

import pytest
import torch

from protuning_mm.engine.config import read_config
from tests.mini import CLASSES, write_backbone, write_coco, write_config
from tests.test_engine.test_feature_cache.small_run import NUMBERS, log, train

SEGMENTOR = """
train_dataloader['dataset']['pipeline'] = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=False), dict(type='PackSegInputs')]
train_cfg = dict(max_iters=4, val_interval=100)
model['backbone']['prompt_stages'] = (3,)
val_cfg = val_dataloader = val_evaluator = test_cfg = test_dataloader = test_evaluator = None
"""
DETECTOR = """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['protuning_mm'], allow_failed_imports=False)
model = dict(
    backbone=dict(
        _delete_=True, type='protuning_mm.ProTunedResNet', depth=18, base_channels=8, prompt_stages=(3,),
        init_cfg=dict(type='Pretrained', checkpoint=BASE)),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1))
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(128, 96), keep_ratio=False), dict(type='PackDetInputs')]
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(data_root=DATA, metainfo=dict(classes=CLASSES), pipeline=train_pipeline))
train_cfg = dict(max_epochs=2)
optim_wrapper = dict(constructor='protuning_mm.TrainableOptimWrapperConstructor')
default_hooks = dict(tuning=dict(type='protuning_mm.TuningHook'))
val_cfg = val_dataloader = val_evaluator = test_cfg = test_dataloader = test_evaluator = None
visualizer = dict(vis_backends=[dict(type='LocalVisBackend')])
"""


def write(model: str, folder: Path) -> Path:
    if model != 'retinanet':
        return write_config(model, folder, SEGMENTOR)
    base, data = write_backbone(folder / 'base.pth'), write_coco(folder / 'coco')
    text = DETECTOR.replace('BASE', repr(str(base))).replace('DATA', repr(f'{data}/')).replace('CLASSES', repr(CLASSES))
    (folder / 'retinanet.py').write_text(text)
    return folder / 'retinanet.py'


@pytest.mark.slow
@pytest.mark.parametrize('model', ['fcn', 'upernet', 'retinanet'])
def test_equal_runs(model: str, tmp_path: Path) -> None:
    path, states = write(model, tmp_path), []
    for cache in (False, True):
        cfg = read_config(path, dict(cache_features=cache, randomness=dict(seed=3)))
        cfg.work_dir, cfg.experiment_name = str(tmp_path / str(cache)), f'dense{next(NUMBERS)}'
        runner = train(cfg)
        assert ('bit for bit' in log(runner)) == cache
        states.append(runner.model.state_dict())
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())


@pytest.mark.slow
def test_masks_cannot_be_stored(tmp_path: Path) -> None:
    from protuning_mm.data import DataError

    path = write('retinanet', tmp_path)
    path.write_text(path.read_text().replace('with_bbox=True', 'with_bbox=True, with_mask=True'))
    cfg = read_config(path, dict(cache_features=True))
    cfg.work_dir, cfg.experiment_name = str(tmp_path / 'run'), f'dense{next(NUMBERS)}'
    with pytest.raises(DataError, match=r'gt_instances\.masks, a BitmapMasks, which cannot be stored'):
        train(cfg)
