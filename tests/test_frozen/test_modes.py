"""What a frozen stage saves: in 8 bits, or only the inputs of its blocks."""

import copy
import math
import pickle
from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from protuning_mm.backbones import TunedBackbone
from protuning_mm.frozen import freeze_efficiently, release, report
from protuning_mm.frozen.recomputing import RecomputedForward, find_blocks
from protuning_mm.frozen.saved_int8 import dequantize, quantize, save_in_int8
from protuning_mm.tunings import TuningError
from tests.families import CELLS, FAMILIES, TUNING_CFGS, images
from tests.plain import fill, relative_error
from tests.test_frozen.cases import output_and_grad, run_often
from tests.test_frozen.test_graph import assert_same, gradients

_VIT = dict(img_size=32, patch_size=4, embed_dim=32, depth=4, num_heads=2, out_indices=(0, 1, 2, 3))
_ARCH = dict(depths=[1, 1, 2, 1], channels=[16, 32, 32, 64])
NETWORKS: dict[str, dict[str, Any]] = {
    'ViT': dict(type='timm', model_name='vit_tiny_patch16_224', **_VIT),
    'DINOv3': dict(type='timm', model_name='vit_small_patch16_dinov3', **_VIT),
    'Swin': dict(type='mmdet.SwinTransformer', embed_dims=16, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4)),
    'ConvNeXt': dict(
        type='mmpretrain.ConvNeXt',
        arch=_ARCH,
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
        layer_scale_init_value=0.5,
    ),
}
IMAGE = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tuned(backbone: dict[str, Any], mode: str | bool, tuning: Any = 'pro') -> TunedBackbone:
    torch.manual_seed(0)
    net = TunedBackbone(backbone, tuning, allow_random_backbone=True, efficient_frozen=mode)
    fill(net)
    with torch.no_grad():  # activations of usual sizes
        for name, param in net.named_parameters():
            param.mul_(0.5 if param.dim() > 1 else 1.0)
            if name.endswith(('gamma', 'gamma_1', 'gamma_2')):
                param.fill_(0.5)
    return net.train()


def retained_bytes(run: Any) -> int:
    """Bytes that are allocated in a call and exist after it, its result among them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        held = run()
    del held
    events = profiler.profiler.kineto_results.events()
    # the profiler ends before `held` is deleted
    return sum(event.nbytes() for event in events if event.name() == '[memory]')


@st.composite
def tensors(draw: Any) -> Tensor:
    group = draw(st.sampled_from([16, 32, 64]))
    shape = [draw(st.integers(1, 5)), group * draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))]
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
    x = torch.randn(*shape) * 10.0 ** draw(st.integers(-6, 2))
    x[0, :4] *= draw(st.sampled_from([0.0, 1.0, 100.0]))  # a group of zeros, an outlier
    x = x.to(dtype)
    layout = draw(st.sampled_from(['contiguous', 'channels last', 'transposed']))
    if layout == 'channels last':
        return x.contiguous(memory_format=torch.channels_last)
    return x.transpose(0, 1) if layout == 'transposed' else x


@run_often(200)
@given(tensors())
def test_quantize(x: Tensor) -> None:
    quantized = quantize(x, 16)
    back = dequantize(quantized)
    assert back.shape == x.shape and back.dtype == x.dtype
    assert quantized.values.dtype == torch.int8 and quantized.values.abs().max() <= 127
    ordered = x.permute(0, 2, 3, 1) if quantized.channels_last else x
    groups = ordered.double().reshape(-1, 16)
    returned = (back.permute(0, 2, 3, 1) if quantized.channels_last else back).double().reshape(-1, 16)
    error = (returned - groups).abs()
    step = groups.abs().amax(1, keepdim=True) / 126  # of the integers; the rounding of bfloat16 included
    rounding = 2 * torch.finfo(x.dtype).eps * groups.abs().amax(1, keepdim=True) + torch.finfo(x.dtype).tiny
    assert (error <= step / 2 * 1.01 + rounding + 1e-30).all()


@pytest.mark.parametrize('value', [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_stays_so(value: float) -> None:
    x = torch.randn(4, 64)
    x[1, 3] = value
    back = dequantize(quantize(x))
    assert not torch.isfinite(back[1]).all() and torch.isfinite(back[[0, 2, 3]]).all()


def test_more_values_than_are_rounded_at_a_time() -> None:
    x = torch.randn(2**18 // 64 + 3, 64)
    assert torch.equal(dequantize(quantize(x)), torch.cat([dequantize(quantize(part)) for part in x.split(1000)]))


@pytest.mark.parametrize('tuning', ['pro', dict(type='lora', rank=2), 'bias'])
@pytest.mark.parametrize('backbone', NETWORKS.values(), ids=NETWORKS)
def test_int8(backbone: dict[str, Any], tuning: Any) -> None:
    """Outputs of the exact mode; gradients within a per cent of them."""
    exact, int8 = (gradients(tuned(backbone, mode, tuning), IMAGE) for mode in ('exact', 'int8'))
    assert exact.keys() == int8.keys() and len(exact) > 8
    for name, value in exact.items():
        if name.startswith('out '):
            assert torch.equal(int8[name], value)
    found, expected = (
        torch.cat([t.flatten() / exact[name].norm() for name, t in of.items() if not name.startswith('out ')]).double()
        for of in (int8, exact)
    )
    assert 1e-6 < relative_norm(found, expected) < 0.01
    assert torch.cosine_similarity(found, expected, dim=0) > 0.9999


def relative_norm(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


QUICK = [
    ('timm.vit', 'pro'),
    ('timm.vit', 'lora'),
    ('mmseg.ViT', 'adaptformer'),
    ('mmdet.Swin', 'pro'),
    ('mmdet.ResNet', 'pro'),
]
MARKED = [
    cell if cell in QUICK else pytest.param(*cell, marks=pytest.mark.slow) for cell in CELLS if 'linear' not in cell
]


@pytest.mark.parametrize(('family', 'tuning'), MARKED)
def test_recompute(family: str, tuning: str) -> None:
    """Every tuning on every family has the gradients of the exact mode."""
    if tuning == 'mona':
        with pytest.raises(TuningError, match="mona cannot run with efficient_frozen='recompute': use 'int8'"):
            tuned(FAMILIES[family], 'recompute', tuning)
        return
    results = []
    for mode in ('exact', 'recompute'):
        net = tuned(FAMILIES[family], mode, TUNING_CFGS[tuning]).double()
        torch.manual_seed(1)  # dropout
        results.append(gradients(net, images(family).double()))
    assert results[0].keys() == results[1].keys()
    for name, value in results[0].items():
        assert relative_error(results[1][name], value) < 1e-8 or not value.any(), name


def test_statistics_are_updated_once() -> None:
    """A block that runs again would update the statistics of a norm in training mode twice."""
    block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    taken = copy.deepcopy(block)
    RecomputedForward(taken)
    x = torch.randn(2, 3, 8, 8)
    for net in (block, taken):
        output_and_grad(net, x)
    assert torch.equal(taken[1].running_mean, block[1].running_mean) and taken[1].num_batches_tracked == 1
    assert 'would update its statistics twice' in report(taken).fallback['']
    assert not report(taken.eval()).fallback


@pytest.mark.parametrize(('mode', 'share'), [('int8', 0.30), ('recompute', 0.15)])
def test_saved_bytes_of_blocks(mode: str, share: float) -> None:
    """A block of a ViT saves ten values a channel: two norms' inputs, q, k, v, the attention's result, GELU's input."""
    vit = timm.create_model('vit_tiny_patch16_224', num_classes=0).requires_grad_(False).eval()
    saving = copy.deepcopy(vit)
    for block in saving.blocks:
        freeze_efficiently(block, mode, [block])
    x = torch.randn(2, 197, 192, requires_grad=True)
    plain, less = retained_bytes(lambda: vit.blocks(x)), retained_bytes(lambda: saving.blocks(x))
    assert 9.9 * 12 < plain / x.nbytes < 10.6 * 12
    assert less < share * plain


@pytest.mark.parametrize('inplace', [False, True])
@pytest.mark.parametrize('act', [nn.GELU(), nn.GELU('tanh'), nn.SiLU(), nn.Hardswish()], ids=str)
def test_smooth_activations(act: nn.Module, inplace: bool) -> None:
    if hasattr(act, 'inplace'):
        act = type(act)(inplace=inplace)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = act

        def forward(self, x: Tensor) -> Tensor:
            return self.act(x * 1) * 2

    net, x = Net(), torch.linspace(-8, 8, 2**15).view(8, 64, 8, 8)
    taken = copy.deepcopy(net)
    save_in_int8(taken)
    (y, grad), (expected, expected_grad) = (output_and_grad(each, x) for each in (taken, net))
    assert torch.equal(y, expected)
    given = torch.randn(y.shape, generator=torch.Generator().manual_seed(5)) * 2
    assert ((grad - expected_grad) / given).abs().max() < 1.0 / 127 / 2 * 1.02  # half a step of the widest range
    single = retained_bytes(lambda: taken(x.requires_grad_())) - x.nbytes
    assert x.numel() <= single < 1.1 * x.numel() + 1000  # the result aside: a byte each


def test_second_derivatives_need_the_exact_mode() -> None:
    block = nn.Sequential(nn.GELU())
    save_in_int8(block)
    x = torch.randn(4, 64, requires_grad=True)
    with pytest.raises(RuntimeError, match="use efficient_frozen='exact'"):
        torch.autograd.grad(block(x * 1).sum(), x, create_graph=True)


def test_weights_changed_before_the_backward_pass() -> None:
    block = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)).requires_grad_(False)
    save_in_int8(block)
    y = block(torch.randn(80, 64, requires_grad=True))
    block[0].weight.mul_(2)
    with pytest.raises(RuntimeError, match=r'of shape \(64, 64\) was changed between the forward and the backward'):
        y.sum().backward()


def test_one_tensor_saved_twice_is_quantized_once() -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            weights = x.softmax(-1)  # saves its result, as the product does
            return weights * x.detach().sigmoid() * weights

    module, x = Twice(), torch.randn(64, 1024, requires_grad=True)
    taken = copy.deepcopy(module)
    save_in_int8(taken)
    results = [output_and_grad(each, x) for each in (module, taken)]
    assert torch.equal(results[0][0], results[1][0]) and relative_norm(results[1][1], results[0][1]) < 0.01
    # result, sigmoid (no activation), softmax in 8 bits, first product in 8 bits
    assert retained_bytes(lambda: taken(x)) < (4 + 4 + 1.04 + 1.04) * x.numel() + 1000


def test_trained_kernels_are_left_alone() -> None:
    net = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64)).requires_grad_(False)
    net[0].weight.requires_grad_()
    taken = copy.deepcopy(net)
    save_in_int8(taken)
    assert list(report(taken).fallback.values()) == ['Sequential: weight is trained']
    x = torch.randn(80, 64)
    assert all(torch.equal(a, b) for a, b in zip(output_and_grad(taken, x), output_and_grad(net, x)))


def test_autocast() -> None:
    nets = [tuned(NETWORKS['ViT'], mode) for mode in ('exact', 'int8')]
    with torch.autocast('cpu', torch.bfloat16):
        exact, int8 = (gradients(net, IMAGE) for net in nets)
    names = [name for name in exact if not name.startswith('out ')]
    found, expected = (torch.cat([of[name].flatten() for name in names]).float() for of in (int8, exact))
    assert relative_norm(found, expected) < 0.02


@pytest.mark.parametrize('mode', ['int8', 'recompute'])
def test_copies_and_release(mode: str) -> None:
    net = tuned(NETWORKS['ViT'], mode)
    expected = gradients(net, IMAGE)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert_same(gradients(other, IMAGE), expected, 1e-6)
        assert report(other.plain).efficient == report(net.plain).efficient
    release(net.plain)
    assert not report(net.plain).efficient and all('forward' not in part.__dict__ for part in net.modules())


def test_blocks_are_found() -> None:
    def names(module: nn.Module) -> set[str]:
        return {type(block).__name__ for block in find_blocks(module)}

    vit = timm.create_model('vit_tiny_patch16_224', num_classes=0, depth=2)
    assert [*find_blocks(vit.blocks)] == [*vit.blocks] and [*find_blocks(vit.blocks[0])] == [vit.blocks[0]]
    swin = TunedBackbone(NETWORKS['Swin'], 'linear', allow_random_backbone=True)
    assert names(swin.plain.stages[2]) == {'SwinBlock'}
    convnext = timm.create_model('convnext_atto', num_classes=0)
    assert names(convnext.stages[2]) == {'ConvNeXtBlock'}


def test_modes_have_names() -> None:
    assert tuned(NETWORKS['ViT'], True).efficient_frozen == tuned(NETWORKS['ViT'], 'exact').efficient_frozen == 'exact'
    with pytest.raises(ValueError, match="efficient_frozen='int4' must be True, False, 'exact', 'int8', 'recompute'"):
        tuned(NETWORKS['ViT'], 'int4')


def test_classifier_learns_as_with_exact_gradients() -> None:
    """After 50 steps the loss differs less than it does between two orders of the images."""
    losses = {}
    for mode, seed in (('exact', 0), ('exact', 1), ('exact', 2), ('int8', 0)):
        net = tuned(NETWORKS['ViT'], mode)
        torch.manual_seed(seed)
        head = nn.Linear(32, 10)
        optimizer = torch.optim.AdamW([*(p for p in net.parameters() if p.requires_grad), *head.parameters()], 3e-3)
        images, labels = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 10
        for i in range(50):
            chosen = torch.randperm(64)[:16] if i < 49 else torch.arange(64)
            loss = F.cross_entropy(head(net(images[chosen])[-1].mean((2, 3))), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[mode, seed] = loss.item()
    of_exact = [loss for (mode, _), loss in losses.items() if mode == 'exact']
    assert max(of_exact) < 2.2  # it learns: chance is 2.3
    assert min(of_exact) - 0.02 < losses['int8', 0] < max(of_exact) + 0.02
