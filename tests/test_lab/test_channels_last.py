"""The hook that stores weights in channels-last order."""

import torch
from torch import nn

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
