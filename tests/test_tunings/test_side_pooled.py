"""The side network of models whose pooled feature has other channels than the last stage."""

import pytest
import torch

from protuning_mm import TunedBackbone


@pytest.mark.parametrize(
    ('name', 'channels'), [('tf_efficientnet_lite0', 1280), ('mobilenetv3_small_050', 1024), ('resnet18', 512)]
)
def test_side_fits_the_pooled_feature(name, channels):
    backbone = TunedBackbone(dict(type='timm', model_name=name), 'side', allow_random_backbone=True)
    backbone.init_weights()
    backbone.train()
    (out,) = backbone(torch.randn(2, 3, 64, 64))
    assert out.shape == (2, channels)
    out.square().mean().backward()
    assert all(p.grad is not None for p in backbone.side.parameters())
