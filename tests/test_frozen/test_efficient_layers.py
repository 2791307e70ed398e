"""Frozen layers outside known blocks keep nothing, and compute what torch computes."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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
