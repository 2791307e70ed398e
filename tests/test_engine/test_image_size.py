"""The size of training images: found, and changed everywhere in a config."""

import pytest
from mmengine.config import Config

from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.image_size import find_training_size, set_image_side


@pytest.mark.parametrize(
    ('pipeline', 'expected'),
    [
        ("[dict(type='Resize', scale=(1333, 800), keep_ratio=True)]", (800, 1344)),
        ("[dict(type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)])]", (800, 1344)),
        ("[dict(type='Resize', scale=(2048, 512)), dict(type='RandomCrop', crop_size=(256, 512))]", (256, 512)),
        (
            "[dict(type='RandomChoice', transforms=[[dict(type='Resize', scale=(640, 480))]]), dict(type='Pack')]",
            (480, 640),
        ),
        ("[dict(type='LoadImageFromFile')]", None),
    ],
)
def test_training_size(pipeline: str, expected: tuple[int, int] | None) -> None:
    text = 'model = dict(data_preprocessor=dict(pad_size_divisor=32))\n'
    text += f'train_dataloader = dict(dataset=dict(pipeline={pipeline}))'
    assert find_training_size(Config.fromstring(text, '.py')) == expected


def test_boxes_of_a_pair_keep_their_proportions() -> None:
    cfg = read_config('mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', dict(image_side=672))
    assert 'image_side' not in cfg
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        (resize,) = (step for step in loader.dataset.pipeline if step.type == 'Resize')
        assert resize.scale == (672, 384)  # 1333 × 800, halved, to multiples of 32
    assert find_training_size(cfg) == (384, 672)


def test_sizes_of_mosaics_and_of_a_later_pipeline() -> None:
    cfg = read_config('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', dict(image_side=320))
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert (steps['CachedMosaic'].img_scale, steps['CachedMixUp'].img_scale) == ((320, 320),) * 2
    assert steps['RandomResize'].scale == (640, 640) and steps['RandomResize'].ratio_range == (0.5, 2.0)
    assert steps['Pad'].pad_val == dict(img=(114, 114, 114))
    later = {step.type: step for step in cfg.custom_hooks[1].switch_pipeline}
    assert later['RandomCrop'].crop_size == later['Pad'].size == (320, 320)
    yolox = read_config('mmdet::yolox/yolox_s_8xb8-300e_coco.py', dict(image_side=320))
    affine = next(step for step in yolox.train_dataloader.dataset.pipeline if step.type == 'RandomAffine')
    assert affine.border == (-160, -160)
    assert yolox.model.data_preprocessor.batch_augments[0].random_size_range == (256, 384)  # 480 and 800, halved


def test_crops_and_windows_of_a_segmentor() -> None:
    name = 'mmseg::vit/vit_vit-b16_mln_upernet_8xb2-80k_ade20k-512x512.py'
    cfg = read_config(name, dict(image_side=256))
    assert cfg.model.data_preprocessor.size == (256, 256)
    steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert steps['RandomCrop'].crop_size == (256, 256) and steps['RandomResize'].scale == (1024, 256)
    sliding = read_config('mmseg::beit/beit-base_upernet_8xb2-160k_ade20k-640x640.py', dict(image_side=320))
    assert sliding.model.test_cfg.crop_size == (320, 320) and sliding.model.test_cfg.stride == (224, 224)


@pytest.mark.parametrize('side', [0, 31, '640', 640.0])
def test_side_that_is_none(side: object) -> None:
    with pytest.raises(ConfigError, match='must be a whole number of pixels, 32 or more'):
        set_image_side(read_config('mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py'), side)  # type: ignore[arg-type]


def test_config_without_sizes() -> None:
    cfg = Config(dict(model=dict(), train_dataloader=dict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))))
    with pytest.raises(ConfigError, match='the size of the training images is not found in the config'):
        set_image_side(cfg, 320)
