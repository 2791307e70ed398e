"""Convolutions that pad their input in forward, as TensorFlow does: timm's Conv2dSame."""

import itertools

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from protuning_mm import TunedBackbone
from protuning_mm.blocks import ConvAdapter, LowRank

GEOMETRY = list(itertools.product((3, 5), (1, 2), (1, 2), ((16, 16), (17, 22))))


def randomize(module: nn.Module) -> None:
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize(('kernel', 'stride', 'dilation', 'size'), GEOMETRY)
def test_the_low_rank_update_is_that_of_the_weight(kernel, stride, dilation, size):
    conv = Conv2dSame(6, 8, kernel, stride, dilation=dilation).double()
    update = LowRank(conv, rank=2, scale=0.7).double()
    randomize(update)
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    found = update(x, conv(x))
    with torch.no_grad():
        conv.weight += update.delta()
    torch.testing.assert_close(found, conv(x))


@pytest.mark.parametrize(('kernel', 'stride', 'dilation', 'size'), GEOMETRY)
def test_the_adapter_pads_as_its_convolution(kernel, stride, dilation, size):
    conv = Conv2dSame(6, 8, kernel, stride, dilation=dilation).double()
    adapter = ConvAdapter(conv, 3).double()
    randomize(adapter)
    down = Conv2dSame(6, 3, kernel, stride, dilation=dilation, groups=3).double()
    down.load_state_dict(adapter.down.state_dict())
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    expected = conv(x) + adapter.scale * adapter.up(down(x).relu())
    torch.testing.assert_close(adapter(x, conv(x)), expected)


@pytest.mark.parametrize('name', ['tf_efficientnet_lite0', 'tf_efficientnetv2_b0'])
@pytest.mark.parametrize('tuning', ['conv_adapter', 'lora', 'dora'])
def test_the_networks_of_tensorflow_are_tuned(name, tuning):
    backbone = TunedBackbone(dict(type='timm', model_name=name), tuning, allow_random_backbone=True)
    backbone.init_weights()
    backbone.eval()
    image = torch.randn(1, 3, 65, 70)
    with torch.no_grad():  # every added module returns its layer's output at initialization
        torch.testing.assert_close(backbone(image)[0], backbone.untuned().eval()(image), atol=1e-4, rtol=1e-4)
