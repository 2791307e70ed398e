"""Frozen layers outside known blocks keep nothing, and compute what torch computes."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn

from protuning_mm.backbones import TunedBackbone
from protuning_mm.frozen import freeze_efficiently, report
from tests.plain import fill, relative_error
from tests.test_frozen.cases import output_and_grad, run_often
from tests.test_frozen.test_graph import assert_same, gradients


@st.composite
def convolutions(draw: Any) -> tuple[nn.Conv2d, Tensor]:
    groups = draw(st.integers(1, 3))
    kernel, stride, padding, dilation = (
        draw(st.tuples(st.integers(low, high), st.integers(low, high)))
        for low, high in ((1, 4), (1, 3), (0, 3), (1, 3))
    )
    conv = nn.Conv2d(
        groups * draw(st.integers(1, 3)),
        groups * draw(st.integers(1, 3)),
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias=draw(st.booleans()),
    )
    least = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding)]
    size = [draw(st.integers(low, low + 8)) for low in least]
    x = torch.randn(draw(st.integers(1, 2)), conv.in_channels, *size)
    return conv, x.contiguous(memory_format=draw(st.sampled_from([torch.contiguous_format, torch.channels_last])))


@run_often(200)
@given(convolutions())
def test_convolution(case: tuple[nn.Conv2d, Tensor]) -> None:
    """Any kernel, stride, padding, dilation and groups, both ways different."""
    conv, x = case
    conv, x = conv.double().requires_grad_(False), x.double()
    if conv.bias is not None:
        conv.bias.requires_grad_(x.shape[0] == 2)  # on some
    taken = copy.deepcopy(conv)
    assert freeze_efficiently(taken).efficient == {'': 'Conv2d'}
    for got, expected in zip(output_and_grad(taken, x), output_and_grad(conv, x)):
        assert relative_error(got, expected) < 1e-12 or float(expected.abs().max()) == 0
    if conv.bias is not None and conv.bias.requires_grad:
        assert relative_error(taken.bias.grad, conv.bias.grad) < 1e-12
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        taken(x.requires_grad_())
    assert not kept


@pytest.mark.parametrize('affine', [True, False])
@pytest.mark.parametrize('beta', [True, False])
def test_norm(affine: bool, beta: bool) -> None:
    """β may be trained: that needs no input."""
    norm = fill(nn.BatchNorm2d(5, affine=affine)).double().eval().requires_grad_(False)
    if affine:
        norm.bias.requires_grad_(beta)
    taken = copy.deepcopy(norm)
    assert freeze_efficiently(taken).efficient == {'': 'BatchNorm2d'}
    x = torch.randn(2, 5, 7, 9).double()
    for got, expected in zip(output_and_grad(taken, x), output_and_grad(norm, x)):
        assert relative_error(got, expected) < 1e-12
    if affine and beta:
        assert relative_error(taken.bias.grad, norm.bias.grad) < 1e-12
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        taken(x.requires_grad_())
    assert not kept


@pytest.mark.parametrize('change', ['trained', 'training', 'no statistics'])
def test_norm_that_is_left(change: str) -> None:
    norm: Any = fill(nn.BatchNorm2d(5)).double().eval().requires_grad_(False)
    if change == 'trained':
        norm.weight.requires_grad_()
    elif change == 'training':
        norm.train()
    else:
        norm.running_mean = norm.running_var = None
    taken = copy.deepcopy(norm)
    assert list(freeze_efficiently(taken).fallback) == ['']
    x = torch.randn(2, 5, 7, 9).double()
    for got, expected in zip(output_and_grad(taken, x), output_and_grad(norm, x)):
        assert torch.equal(got, expected)
    assert all(torch.equal(a, b) for a, b in zip(taken.buffers(), norm.buffers()))


class After(nn.Module):
    """An activation after an operation, so that it may overwrite its input."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x * 2) * 3


def saved(module: nn.Module, x: Tensor) -> list[Tensor]:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        module(x.detach().requires_grad_())
    return [t for t in kept if t.numel() > 1]


@pytest.mark.parametrize('inplace', [False, True])
@pytest.mark.parametrize('act', [nn.ReLU, nn.ReLU6, lambda inplace: nn.Hardtanh(-1, 0.5, inplace)])
def test_relu(act: Any, inplace: bool) -> None:
    """At the limits, beyond them, and where a value is no number; one bit each is kept."""
    module = After(act(inplace=inplace))
    taken = copy.deepcopy(module)
    assert list(freeze_efficiently(taken).efficient) == ['act']
    x = torch.randn(2, 3, 7, 9).mul_(3)
    x.view(-1)[:8] = torch.tensor([0.0, -0.0, 3.0, -0.5, 0.25, torch.inf, -torch.inf, 6.0])
    if act is nn.ReLU:  # torch's ReLU6 passes a gradient to some NaN and not to others, by their places in memory
        x.view(-1)[8] = torch.nan
    for layout in (torch.contiguous_format, torch.channels_last):
        x = x.contiguous(memory_format=layout)
        for got, expected in zip(output_and_grad(taken, x), output_and_grad(module, x)):
            assert torch.equal(got.nan_to_num(7), expected.nan_to_num(7))
            assert torch.equal(got.signbit(), expected.signbit())
    assert [(t.dtype, t.numel()) for t in saved(taken, x)] == [(torch.uint8, -(-x.numel() // 8))]


def test_relu_that_overwrites_a_view_or_a_leaf_is_left() -> None:
    act = nn.ReLU(inplace=True)
    freeze_efficiently(act)
    x = torch.randn(4, 6, requires_grad=True)
    y = x * 1
    part = y[:, :3]
    assert act(part) is part and type(y.grad_fn).__name__ == 'CopySlices'
    with pytest.raises(RuntimeError, match='a leaf Variable that requires grad is being used in an in-place operation'):
        act(x)


@pytest.mark.parametrize('act', [nn.ReLU, nn.ReLU6, nn.SiLU, nn.Identity])
def test_norm_with_an_activation(act: Any) -> None:
    norm = fill(BatchNormAct2d(5, act_layer=act)).double().eval().requires_grad_(False)
    taken = copy.deepcopy(norm)
    assert freeze_efficiently(taken).efficient[''] == 'BatchNormAct2d'
    x = torch.randn(2, 5, 8, 8).double()
    for hooked in (False, True):
        for net in (norm, taken) if hooked else ():
            net.act.register_forward_hook(lambda module, args, y: y * 2)
        for got, expected in zip(output_and_grad(taken, x), output_and_grad(norm, x)):
            assert relative_error(got, expected) < 1e-12
    if act in (nn.ReLU, nn.ReLU6):
        assert [t.dtype for t in saved(taken, x)] == [torch.uint8]
    norm.bias.requires_grad_()
    taken.bias.requires_grad_()
    for got, expected in zip(output_and_grad(taken, x), output_and_grad(norm, x)):
        assert relative_error(got, expected) < 1e-12
    assert relative_error(taken.bias.grad, norm.bias.grad) < 1e-12


@pytest.mark.parametrize('kind', [Conv2dSame, Conv2dAdaptivePadding])
@pytest.mark.parametrize('settings', [dict(stride=2), dict(stride=2, groups=4), dict(dilation=3), dict(stride=(3, 1))])
def test_convolution_that_pads_at_each_call(kind: Any, settings: dict[str, Any]) -> None:
    conv = kind(4, 8, (5, 3), **settings).double().requires_grad_(False)
    taken = copy.deepcopy(conv)
    assert list(freeze_efficiently(taken).efficient) == ['']
    for size in ((7, 10), (8, 9), (3, 3)):
        x = torch.randn(2, 4, *size).double()
        for got, expected in zip(output_and_grad(taken, x), output_and_grad(conv, x)):
            assert relative_error(got, expected) < 1e-12
        assert not saved(taken, x)


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_convolution_of_patches(layout: torch.memory_format) -> None:
    conv = nn.Conv2d(6, 5, 4, 4).double().requires_grad_(False)
    taken = copy.deepcopy(conv)
    freeze_efficiently(taken)
    for size in ((8, 12), (9, 12)):  # of the second, a row is in no patch
        x = torch.randn(2, 6, *size).double().contiguous(memory_format=layout)
        for got, expected in zip(output_and_grad(taken, x), output_and_grad(conv, x)):
            assert relative_error(got, expected) < 1e-12


def test_autocast() -> None:
    conv = nn.Conv2d(4, 6, 3, padding=1).requires_grad_(False)
    taken = copy.deepcopy(conv)
    freeze_efficiently(taken)
    x = torch.randn(2, 4, 9, 9)
    with torch.autocast('cpu', torch.bfloat16):
        got, expected = output_and_grad(taken, x), output_and_grad(conv, x)
    assert [t.dtype for t in got] == [t.dtype for t in expected] == [torch.bfloat16, torch.float32]
    assert all(relative_error(a.float(), b.float()) < 0.02 for a, b in zip(got, expected))


NETWORKS: dict[str, dict[str, Any]] = {
    'ConvNeXt': dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32]),
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
        layer_scale_init_value=0.5,
    ),
    'RegNet of timm': dict(
        type='timm',
        model_name='regnetx_002',
        depth=6,
        w0=8,
        wa=8.0,
        wm=2.0,
        group_size=4,
        stem_width=8,
        out_indices=(0, 1, 2, 3),
    ),
    'ResNet': dict(type='mmdet.ResNet', depth=50, base_channels=4, stem_channels=4),
}


@pytest.mark.parametrize('tuning', ['pro', 'bias', 'norm'])
@pytest.mark.parametrize('backbone', NETWORKS.values(), ids=NETWORKS)
def test_networks(backbone: dict[str, Any], tuning: str) -> None:
    """Gradients of plain torch, and less kept, where blocks are not known or not frozen whole."""
    nets = [
        fill(TunedBackbone(backbone, tuning, allow_random_backbone=True, efficient_frozen=efficient)).double().train()
        for efficient in (True, False)
    ]
    image = torch.randn(2, 3, 64, 64).double()
    assert_same(*(gradients(net, image) for net in nets))
    assert report(nets[0].plain).efficient
    kept = [kept_bytes(net, image) for net in nets]
    # a norm whose weight is trained needs its input (timm's norms are its own), and a ReLU keeps the convolution's
    little = tuning == 'norm' or (tuning == 'bias' and backbone['type'] == 'timm')
    assert kept[0] <= kept[1] * (1 if little else 0.97)


def kept_bytes(net: nn.Module, image: Tensor) -> int:
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    found: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in weights:
            found[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        outs = net(image)
    assert len(outs) == 4
    return sum(found.values())
