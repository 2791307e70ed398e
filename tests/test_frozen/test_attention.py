"""Swin's window attention keeps queries, keys and values, and computes what its class computes."""

import copy
import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone
from protuning_mm.frozen import freeze_efficiently
from tests.families import FAMILIES
from tests.plain import fill, relative_error
from tests.test_frozen.test_efficient_layers import kept_bytes
from tests.test_frozen.test_graph import assert_same, gradients

CLASSES = {
    'mmdet': 'mmdet.models.backbones.swin',
    'mmseg': 'mmseg.models.backbones.swin',
    'mmpretrain': 'mmpretrain.models.utils.attention',
}


def attention(host: str) -> nn.Module:
    cls = importlib.import_module(CLASSES[host]).WindowMSA
    return fill(cls(embed_dims=12, num_heads=3, window_size=(4, 4))).double().requires_grad_(False)


def run(module: nn.Module, masked: bool) -> tuple[Tensor, Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 16, 12, generator=generator).double().requires_grad_()
    mask = torch.zeros(3, 16, 16).double() if masked else None
    if mask is not None:
        mask[1, :5, 7:] = -100
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = module(x, mask)
    y.backward(torch.randn(y.shape, generator=generator).double())
    assert x.grad is not None
    return y.detach(), x.grad, kept


@pytest.mark.parametrize('host', list(CLASSES))
@pytest.mark.parametrize('masked', [True, False])
def test_same_output_and_gradient(host: str, masked: bool) -> None:
    plain = attention(host)
    taken = copy.deepcopy(plain)
    assert freeze_efficiently(taken).efficient == {'': 'WindowMSA'}
    (y, grad, kept), (expected, expected_grad, usual) = run(taken, masked), run(plain, masked)
    assert relative_error(y, expected) < 1e-12 and relative_error(grad, expected_grad) < 1e-12
    assert sorted(tuple(t.shape) for t in kept if t.numel() > 1000) == [(6, 16, 36)]
    assert len([t for t in usual if t.numel() > 1000]) > 2


CHANGES: dict[str, Any] = {
    'position bias is trained': lambda m: m.relative_position_bias_table.requires_grad_(),
    'dropout': lambda m: setattr(m, 'attn_drop', nn.Dropout(0.5).train()),
    'hook': lambda m: m.softmax.register_forward_hook(lambda module, args, y: y * 2),
    'another softmax': lambda m: setattr(m, 'softmax', nn.Softmax(-2)),
}


@pytest.mark.parametrize('change', CHANGES.values(), ids=CHANGES)
def test_what_is_left(change: Any) -> None:
    plain = attention('mmdet')
    change(plain)
    taken = copy.deepcopy(plain)
    assert '' in freeze_efficiently(taken).fallback
    torch.manual_seed(0)
    y, grad, _ = run(taken, False)
    torch.manual_seed(0)
    expected, expected_grad, _ = run(plain, False)
    assert torch.equal(y, expected) and torch.equal(grad, expected_grad)


@pytest.mark.parametrize('family', ['mmdet.Swin', 'mmseg.Swin', 'mmpretrain.Swin'])
@pytest.mark.parametrize('tuning', ['pro', 'lora', 'bias'])
def test_networks(family: str, tuning: str) -> None:
    nets = []
    for efficient in (True, False):
        torch.manual_seed(0)
        net = TunedBackbone(FAMILIES[family], tuning, allow_random_backbone=True, efficient_frozen=efficient)
        nets.append(fill(net).double().train())
    image = torch.randn(2, 3, 64, 64).double()
    assert_same(*(gradients(net, image) for net in nets))
    assert kept_bytes(nets[0], image) < 0.95 * kept_bytes(nets[1], image)
