"""A folder of converted data in configs of the hosts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from protuning_mm.cli import test as test_tool
from protuning_mm.cli.train import main as train_main
from protuning_mm.conversion import convert_data
from protuning_mm.data.errors import DataError
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.use_data import use_data
from tests.mini import CLASSES, write_ade, write_coco


def boxes(tmp_path: Path, masks: bool = False) -> Path:
    root = write_coco(tmp_path / 'coco')
    for path in root.glob('annotations/*.json'):
        content = json.loads(path.read_text())
        for each in content['annotations']:
            if not masks:
                del each['segmentation']
        path.write_text(json.dumps(content))
    convert_data(root, tmp_path / 'boxes', kind='coco')
    return tmp_path / 'boxes'


def maps(tmp_path: Path) -> Path:
    convert_data(write_ade(tmp_path / 'ade'), tmp_path / 'maps', kind='label-maps')
    return tmp_path / 'maps'


def folders(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for name in CLASSES:
            (tmp_path / 'classes' / split / name).mkdir(parents=True)
            for i in range(2):
                pixels = rng.integers(0, 255, (32, 32, 3), np.uint8)
                cv2.imwrite(str(tmp_path / f'classes/{split}/{name}/{i}.jpg'), pixels)
    convert_data(tmp_path / 'classes', tmp_path / 'folders')
    return tmp_path / 'folders'


SMALL = dict(
    mmdet=(
        'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
        boxes,
        dict(scale=(128, 96)),
        {'train_cfg.max_epochs': 1, 'model.bbox_head.num_classes': 80},
    ),
    mmseg=(
        'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        maps,
        dict(scale=(128, 96), crop_size=(64, 64)),
        {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'model.data_preprocessor.size': (64, 64)},
    ),
    mmpretrain=('mmpretrain::resnet/resnet18_8xb32_in1k.py', folders, dict(scale=32), {'train_cfg.max_epochs': 1}),
)


def write_weights(cfg: Config, path: Path) -> str:
    init_default_scope(cfg.default_scope)
    settings = {key: value for key, value in cfg.model.backbone.items() if key != 'init_cfg'}
    torch.save(MODELS.build(settings).state_dict(), path)
    return str(path)


@pytest.mark.parametrize('host', list(SMALL))
def test_trains_and_tests(tmp_path: Path, host: str) -> None:
    """A config of a host needs the folder's name and nothing else; the dumped config needs nothing."""
    name, make, sizes, options = SMALL[host]
    folder = make(tmp_path)
    cfg = read_config(name, options | {f'{split}_dataloader.num_workers': 0 for split in ('train', 'val', 'test')})
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].update(persistent_workers=False, batch_size=2)
        for step in cfg[f'{split}_dataloader'].dataset.pipeline:
            step.update({key: value for key, value in sizes.items() if key in step})
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=write_weights(cfg, tmp_path / 'backbone.pth'))
    cfg.dump(tmp_path / 'host.py')
    flags = ['--data-folder', str(folder), '--tune', 'pro', '--work-dir', str(tmp_path / 'run')]
    train_main([str(tmp_path / 'host.py'), *flags])

    dumped = tmp_path / 'run/host.py'
    content = Config.fromfile(dumped)
    assert 'data' not in content and str(folder) in content.train_dataloader.dataset.ann_file
    checkpoint = next((tmp_path / 'run').glob('*_*.pth'))
    test_tool.main([str(dumped), str(checkpoint), '--work-dir', str(tmp_path / 'tested')])


def use(make: Callable[..., Path], name: str, tmp_path: Path, **options: Any) -> Config:
    return use_data(read_config(name), make(tmp_path, **options))


def test_numbers_of_classes_follow_the_data(tmp_path: Path) -> None:
    cfg = use(boxes, 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', tmp_path, masks=True)
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 3
    assert cfg.val_evaluator.metric == ['bbox', 'segm']
    former = use_data(read_config('mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco.py'), tmp_path / 'boxes')
    assert former.model.panoptic_head.num_things_classes == former.model.panoptic_fusion_head.num_things_classes == 3
    assert former.model.panoptic_head.num_stuff_classes == 0
    assert former.model.panoptic_head.loss_cls.class_weight == [1.0, 1.0, 1.0, 0.1]


def test_weights_of_single_classes_are_dropped(tmp_path: Path) -> None:
    """Those of Cityscapes say nothing of other classes."""
    name = 'mmseg::ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py'
    losses = read_config(name).model.decode_head.loss_decode
    assert len(set(losses[0].class_weight)) > 1
    cfg = use(maps, name, tmp_path)
    assert cfg.model.decode_head.num_classes == len(json.loads((tmp_path / 'maps/dataset.json').read_text())['classes'])
    assert all(loss.class_weight is None for loss in cfg.model.decode_head.loss_decode)
    assert cfg.val_evaluator.type == 'IoUMetric'


def test_pixels_without_a_class(tmp_path: Path) -> None:
    """CamVid's configs name them 11, which may be a class of other data."""
    name = 'protuning_mm::seg/upernet_efficientnet-lite0_protune_camvid.py'
    assert read_config(name).model.decode_head.ignore_index == 11
    cfg = use(maps, name, tmp_path)
    assert cfg.model.decode_head.ignore_index == cfg.model.auxiliary_head.ignore_index == 255
    assert cfg.model.data_preprocessor.seg_pad_val == cfg.val_evaluator.ignore_index == 255
    crop = next(step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomCrop')
    assert crop.ignore_index == 255


def test_joined_and_wrapped_data_sets(tmp_path: Path) -> None:
    cfg = use(boxes, 'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py', tmp_path)
    wrapper = cfg.train_dataloader.dataset
    assert (wrapper.type, wrapper.times, wrapper.dataset.type) == ('RepeatDataset', 3, 'CocoDataset')
    assert (cfg.val_evaluator.type, cfg.val_evaluator.metric) == ('CocoMetric', 'bbox')
    assert cfg.model.roi_head.bbox_head.num_classes == 3
    mixed = use_data(read_config('mmdet::yolox/yolox_s_8xb8-300e_coco.py'), tmp_path / 'boxes').train_dataloader.dataset
    assert (mixed.type, mixed.dataset.type) == ('MultiImageMixDataset', 'CocoDataset')
    assert mixed.pipeline[0].type == 'Mosaic' and mixed.dataset.pipeline[0].type == 'LoadImageFromFile'


def test_data_of_images_in_memory_and_fewer_classes_than_5(tmp_path: Path) -> None:
    cfg = use(folders, 'mmpretrain::resnet/resnet18_8xb16_cifar10.py', tmp_path)
    steps = cfg.train_dataloader.dataset.pipeline
    assert [step.type for step in steps[:3]] == ['LoadImageFromFile', 'Resize', 'RandomCrop']
    assert steps[1].scale == (32, 32) and cfg.data_preprocessor.to_rgb
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == 3
    image_net = use_data(read_config('mmpretrain::resnet/resnet50_8xb32_in1k.py'), tmp_path / 'folders')
    assert image_net.val_evaluator.topk == image_net.model.head.topk == (1,)


def test_key_in_a_config(tmp_path: Path) -> None:
    folder = boxes(tmp_path)
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'\ndata = '{folder}'\n")
    cfg = read_config(path)
    assert cfg.model.bbox_head.num_classes == 3 and cfg.val_evaluator.ann_file == str(folder / 'val.json')
    assert cfg.train_dataloader.batch_size == 32 and cfg.test_evaluator.ann_file == str(folder / 'val.json')
    path.write_text(f"_base_ = 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'\ndata = '{tmp_path}/nowhere'\n")
    with pytest.raises(DataError, match='nowhere.*there is no such folder'):
        read_config(path)


def test_what_does_not_fit(tmp_path: Path) -> None:
    folder = boxes(tmp_path)
    with pytest.raises(ConfigError, match='is for detection, for a config of mmdet; but .* is of mmseg'):
        use_data(read_config('mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py'), folder)
    with pytest.raises(
        ConfigError, match='train_dataloader: its pipeline loads masks of objects, and .* has boxes only'
    ):
        use_data(read_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'), folder)
    with pytest.raises(ConfigError, match='loads label maps'):
        use_data(read_config('mmdet::htc/htc_r50_fpn_1x_coco.py'), boxes(tmp_path, masks=True))
    for content, message in (('{', 'cannot be read'), ('{"version": 9}', 'is not one that this version writes')):
        (folder / 'dataset.json').write_text(content)
        with pytest.raises(DataError, match=message):
            use_data(read_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'), folder)
    with pytest.raises(DataError, match='has no dataset.json. Convert it first: protuning data convert'):
        use_data(read_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'), tmp_path)
