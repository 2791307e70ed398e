"""The hook that stores weights in channels-last order."""

import torch
from mmcv.ops import DeformConv2dPack, RoIAlign
from torch import Tensor, nn

from protuning_lab.channels_last import ChannelsLastHook
from protuning_mm import TunedBackbone


def test_outputs_stay_and_maps_are_channels_last():
    torch.manual_seed(0)
    model = TunedBackbone(
        dict(type='timm', model_name='tf_efficientnet_lite0', out_indices=(1, 2, 3, 4)), allow_random_backbone=True
    )
    model.init_weights()
    for prompt in model.prompts:
        nn.init.normal_(prompt.expand.weight, std=0.1)
    model.train()
    image = torch.randn(2, 3, 64, 64)
    before = model(image)
    ChannelsLastHook().before_run(type('Runner', (), dict(model=model)))
    after = model(image)
    for expected, found in zip(before, after, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert not expected.is_contiguous(memory_format=torch.channels_last)


def test_operators_of_mmcv_compute_the_same():
    """RoIAlign and deformable convolution read memory as contiguous; RoIAlign gave other regions, without an error."""
    torch.manual_seed(0)

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.deform = DeformConv2dPack(8, 8, 3, padding=1)
            nn.init.normal_(self.deform.conv_offset.weight, std=0.1)
            self.align = RoIAlign(output_size=5, spatial_scale=0.5)

        def forward(self, image: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
            return self.align(self.conv(image), regions), self.deform(self.conv(image))

    model = Detector()
    image, regions = torch.randn(2, 3, 32, 24), torch.tensor([[0, 4.0, 4.0, 40.0, 30.0], [1, 0.0, 8.0, 20.0, 60.0]])
    before = model(image, regions)
    ChannelsLastHook().before_run(type('Runner', (), dict(model=model)))
    assert model.conv(image).is_contiguous(memory_format=torch.channels_last)
    for expected, found in zip(before, model(image, regions), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
