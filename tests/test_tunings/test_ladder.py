"""The ladder: what it computes, and that the frozen network has no graph."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from protuning_mm import TunedBackbone, TuningError
from tests.families import FAMILIES, images
from tests.plain import disturb, fill, relative_error


def ladder(backbone: dict[str, object]) -> TunedBackbone:
    torch.manual_seed(0)
    net = TunedBackbone(backbone, 'ladder', allow_random_backbone=True)
    fill(net.plain)
    disturb(net.ladder)
    return net.double().train()


def test_outputs_by_hand() -> None:
    """Prompts P and matrices A, B: h_i = u + P(x_i + u), u = B gelu(A mean(h_{i-1})), over areas of 2×2."""
    net = ladder(FAMILIES['mmdet.ResNet'])
    with torch.no_grad():
        image = images('mmdet.ResNet').double()
        plain = net.untuned().double()
        plain.eval()  # returns None
        features = plain(image)
        gain: Tensor | None = None
        for got, x, rung in zip(net(image), features, net.ladder['rungs'], strict=True):
            u = torch.zeros_like(x)
            if gain is not None:
                mean = F.avg_pool2d(gain, 2)
                hidden = F.gelu(torch.einsum('oc,nchw->nohw', rung.down[0].weight.flatten(1), mean))
                u = torch.einsum('oc,nchw->nohw', rung.down[2].weight.flatten(1), hidden)
            gain = u + rung.prompt(x + u)
            assert gain.abs().max() > 1e-3 and relative_error(got, x + gain) < 1e-10


@pytest.mark.parametrize('family', ['mmdet.ResNet', 'mmdet.Swin', 'timm.vit'])
def test_frozen_stages_have_no_graph(family: str) -> None:
    net = ladder(FAMILIES[family])
    seen: list[bool] = []
    for stage in net.structure.stages:
        net.plain.get_submodule(stage.end).register_forward_hook(lambda module, args, y: seen.append(y.requires_grad))
    outs = net(images(family).double())
    assert seen == [False] * len(net.structure.stages) and all(out.requires_grad for out in outs)


def test_pooled_feature_of_other_channels() -> None:
    """Layers after the last stage widen it: a matrix maps the mean of the gain to it."""
    net = ladder(dict(type='timm', model_name='test_efficientnet'))
    (out,) = net(torch.randn(2, 3, 64, 64).double())
    assert out.shape[1] != net.structure.channels[-1]
    out.square().sum().backward()
    assert all(param.grad is not None and param.grad.any() for param in net.ladder.parameters())


def test_outputs_that_are_no_maps() -> None:
    with pytest.raises(TuningError, match=r"ladder needs outputs that are feature maps .* or use 'pro'"):
        ladder(dict(FAMILIES['mmpretrain.ViT_cls'], out_type='raw'))
