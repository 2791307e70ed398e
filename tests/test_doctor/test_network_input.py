"""The doctor's check of normalization, channels and patch size."""

from typing import Any

import pytest
from mmengine.config import Config

from protuning_mm.doctor.findings import Finding
from protuning_mm.doctor.network_input import check_network_input
from protuning_mm.doctor.training_setup import TrainingSetup, build_model

DINOV3 = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


def findings(preprocessor: dict[str, Any], size: int = 64, backbone: dict[str, Any] | None = None) -> list[Finding]:
    small = dict(depth=4, embed_dim=16, num_heads=2)
    network = dict(type='timm', model_name='vit_small_patch16_dinov3', **small) | (backbone or {})
    cfg = Config(
        dict(
            default_scope='mmseg',
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(type='SegDataPreProcessor', size=(size, size), **preprocessor),
                backbone=dict(
                    type='protuning_mm.TunedBackbone', backbone=network, tuning='pro', allow_random_backbone=True
                ),
                decode_head=dict(type='FCNHead', in_channels=16, channels=8, num_classes=3),
            ),
        )
    )
    setup = TrainingSetup(cfg)
    build_model(setup)
    return list(check_network_input(setup))


def test_images_as_the_network_was_trained() -> None:
    assert findings(DINOV3) == []


@pytest.mark.parametrize(
    ('settings', 'key', 'message'),
    [
        (dict(bgr_to_rgb=False), 'bgr_to_rgb', 'False, but .*dinov3.* of timm was trained on RGB images'),
        (dict(mean=[127.5] * 3), 'mean', r'\[127.5, 127.5, 127.5\], but .* trained with \[123.675, 116.28, 103.53\]'),
        (dict(std=[1.0] * 3), 'std', r'\[1, 1, 1\], but the weights of .* trained with \[58.395, 57.12, 57.375\]'),
    ],
)
def test_other_images(settings: dict[str, Any], key: str, message: str) -> None:
    import re

    (found,) = findings(DINOV3 | settings)
    assert (found.level, found.where) == ('warning', f'model.data_preprocessor.{key}')
    assert re.match(message, found.found)


def test_size_that_is_no_multiple_of_the_patches() -> None:
    network = dict(model_name='vit_small_patch14_dinov2', img_size=70)
    found = findings(DINOV3, size=64, backbone=network)
    assert [(each.level, each.where) for each in found] == [('error', 'model.backbone.backbone.dynamic_img_pad')]
    assert 'images of 64x64 pixels are no multiple of the patches' in found[0].found and '14x14' in found[0].found
    padded = dict(network, dynamic_img_size=True, dynamic_img_pad=True)
    assert findings(DINOV3, size=64, backbone=padded) == []
