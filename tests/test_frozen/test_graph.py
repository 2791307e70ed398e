"""A tuned backbone run efficiently, in all the ways in which people run networks."""

import copy
import math
from collections.abc import Callable
from statistics import mean, median, stdev
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from protuning_lab.measure import MIB, kept_memory
from protuning_mm import ProTunedResNet
from protuning_mm.backbones import TunedBackbone
from protuning_mm.frozen import report
from tests.plain import SMALL, disturb, fill, relative_error

IMAGE = torch.randn(2, 3, 64, 72, generator=torch.Generator().manual_seed(0)).double()


def pair(depth: int = 50, tuning: Any = 'pro', seed: int = 1, **kwargs: Any) -> tuple[TunedBackbone, TunedBackbone]:
    """The same tuned network twice, run efficiently and by plain torch, in double precision."""
    settings: dict[str, Any] = dict(depth=depth, host='mmdet', allow_random_backbone=True, **(SMALL | kwargs))
    efficient = ProTunedResNet(tuning=tuning, **settings)
    plain = ProTunedResNet(tuning=tuning, efficient_frozen=False, **settings)
    fill(efficient, seed)
    plain.load_state_dict(efficient.state_dict())
    return efficient.double().train(), plain.double().train()


def gradients(net: nn.Module, image: Tensor = IMAGE, run: Callable[..., Any] | None = None) -> dict[str, Tensor]:
    """Outputs by number and gradients by name, for a loss that every output has a part in."""
    net.zero_grad()
    outs = (net if run is None else run)(image)
    sum((out * out).sum() for out in outs).backward()  # type: ignore[union-attr]
    return {
        **{f'out {i}': out.detach() for i, out in enumerate(outs)},
        **{name: param.grad.clone() for name, param in net.named_parameters() if param.grad is not None},
    }


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor], bound: float = 1e-10) -> None:
    assert set(got) == set(expected) and len(got) > 4
    for name, value in expected.items():
        assert relative_error(got[name], value) < bound, name


TUNINGS: list[Any] = [
    'pro',
    dict(type='pro', prompt_stages=(1, 3)),
    dict(type='pro', norm_cfg=None),
    dict(type='pro', norm_cfg=dict(type='BN'), init='zero_scale', act_cfg=dict(type='ReLU')),
    'partial',
    'bias',
    'norm',
    'conv_adapter',
    'lora',
    'ssf',
    'side',
    ['pro', dict(type='partial', k=2)],
]


@pytest.mark.parametrize('tuning', TUNINGS, ids=str)
@pytest.mark.parametrize('depth', [18, 50])
def test_every_tuning_has_the_gradients_of_plain_torch(tuning: Any, depth: int) -> None:
    efficient, plain = pair(depth, tuning)
    assert_same(gradients(efficient), gradients(plain))
    efficient.eval(), plain.eval()
    for a, b in zip(efficient(IMAGE), plain(IMAGE)):
        assert relative_error(a, b) < 1e-10


def test_what_lies_before_the_first_prompt_has_no_graph() -> None:
    efficient, _ = pair()
    seen: list[Tensor] = []
    efficient.layer1[-1].register_forward_hook(lambda module, args, y: seen.append(y))
    efficient(IMAGE)
    assert seen[0].grad_fn is None and not seen[0].requires_grad


def test_gradient_of_the_image() -> None:
    efficient, plain = pair()
    grads = []
    for net in (efficient, plain):
        image = IMAGE.clone().requires_grad_()
        gradients(net, image)
        grads.append(image.grad)
    assert relative_error(*grads) < 1e-10  # type: ignore[arg-type]


def test_features_can_be_hooked_and_changed() -> None:
    """Hooks on stages and blocks see the features that they would see, and gradients flow to them."""
    results = []
    for net in pair():
        seen: list[Tensor] = []
        net.layer2[1].register_forward_hook(lambda module, args, y: y * 2)
        net.layer3.register_forward_hook(lambda module, args, y, seen=seen: seen.append(y) or y.retain_grad())
        results.append(gradients(net) | {'feature': seen[0].detach(), 'its gradient': seen[0].grad})
    assert_same(*results)  # type: ignore[arg-type]


def test_hooks_inside_a_block_are_called() -> None:
    efficient, plain = pair()
    calls = [0, 0]

    def count(i: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, y: Tensor) -> Tensor:
            calls[i] += 1
            return y * 1.5

        return hook

    efficient.layer2[1].conv2.register_forward_hook(count(0))
    plain.layer2[1].conv2.register_forward_hook(count(1))
    assert_same(gradients(efficient), gradients(plain))
    assert calls == [1, 1]
    assert 'conv2 has hooks' in report(efficient.plain).fallback['layer2.1']


def test_twice_in_one_graph() -> None:
    efficient, plain = pair()
    twice = [lambda image, net=net: [a + b for a, b in zip(net(image), net(image * 0.5))] for net in (efficient, plain)]
    assert_same(gradients(efficient, run=twice[0]), gradients(plain, run=twice[1]))


def test_backward_twice_through_one_graph() -> None:
    efficient, _ = pair()
    loss = efficient(IMAGE)[-1].square().sum()
    loss.backward(retain_graph=True)
    once = {n: p.grad.clone() for n, p in efficient.named_parameters() if p.grad is not None}
    loss.backward()
    for name, grad in once.items():
        got = efficient.get_parameter(name).grad
        assert got is not None and relative_error(got, 2 * grad) < 1e-10
    with pytest.raises(RuntimeError, match='second time'):
        loss.backward()


def test_double_backward() -> None:
    results = []
    for net in pair():
        image = IMAGE.clone().requires_grad_()
        (grad,) = torch.autograd.grad(net(image)[-1].square().sum(), image, create_graph=True)
        grad.square().sum().backward()
        grads = {name: param.grad for name, param in net.named_parameters() if param.grad is not None}
        results.append({'image': image.grad, **grads})
    assert_same(*results)  # type: ignore[arg-type]


@pytest.mark.parametrize('reentrant', [True, False])
def test_gradient_checkpointing(reentrant: bool) -> None:
    """torch's, around the whole network; and the host's with_cp, around blocks."""
    efficient, plain = pair()
    expected = gradients(plain)
    image = IMAGE.clone().requires_grad_()
    got = gradients(efficient, image, run=lambda x: checkpoint(efficient, x, use_reentrant=reentrant))
    assert_same(got, expected)
    efficient, plain = pair(with_cp=True)
    assert_same(gradients(efficient), gradients(plain))


def test_offloading_of_what_is_saved() -> None:
    efficient, plain = pair()
    with torch.autograd.graph.save_on_cpu():
        got = gradients(efficient)
    assert_same(got, gradients(plain))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('of_weights', [torch.contiguous_format, torch.channels_last])
def test_memory_formats(layout: torch.memory_format, of_weights: torch.memory_format) -> None:
    efficient, plain = (net.to(memory_format=of_weights) for net in pair())
    image = IMAGE.contiguous(memory_format=layout)
    assert_same(gradients(efficient, image), gradients(plain, image))
    for a, b in zip(efficient(image), plain(image)):
        assert a.stride() == b.stride()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    """Types are those of plain torch. Outputs are nearer to the exact ones, gradients no further from them.

    A gradient's error says little by itself: where a sum rounds to another sign, a ReLU's gradient jumps, on either
    path, and by seed the two paths' errors have ratios between a half and two. So it is the mean of the ratios'
    logarithms that may not be two standard errors above zero.
    """
    errors: dict[tuple[str, int], list[float]] = {}
    ratios = []
    for seed in range(8):
        nets = pair(base_channels=16, stem_channels=16, seed=seed)
        exact = under_autocast(nets[1], IMAGE, None)
        results = [under_autocast(net.float(), IMAGE.float(), dtype) for net in nets]
        assert {n: v.dtype for n, v in results[0].items()} == {n: v.dtype for n, v in results[1].items()}
        of_seed: list[list[float]] = [[], []]
        for i, found in enumerate(results):
            for name, value in exact.items():
                error = float((found[name].double() - value).norm() / value.norm())
                (errors.setdefault(('outputs', i), []) if name.startswith('out') else of_seed[i]).append(error)
        ratios.append(math.log(median(of_seed[0]) / median(of_seed[1])))
    assert median(errors['outputs', 0]) < median(errors['outputs', 1])
    assert mean(ratios) < 2 * stdev(ratios) / math.sqrt(len(ratios)), ratios


@pytest.mark.parametrize('avg_down', [False, True], ids=['V1b', 'V1d'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_the_whole_network_cast(dtype: torch.dtype, avg_down: bool) -> None:
    """Outputs are plain torch's, bit for bit: weights of two bytes are not folded, so nothing is rounded otherwise.

    Gradients are as far from the exact ones of the same weights as plain torch's in the same type; see the test above.
    """
    ratios = []
    for seed in range(4):
        nets = pair(base_channels=16, stem_channels=16, deep_stem=avg_down, avg_down=avg_down, seed=seed)
        nets[0].to(dtype), nets[1].to(dtype)
        assert not report(nets[0].plain).fallback
        image = IMAGE.to(dtype)
        exact = under_autocast(copy.deepcopy(nets[1]).double(), image.double(), None)
        ours, plain = (under_autocast(net, image, None) for net in nets)
        assert {value.dtype for value in ours.values()} == {dtype}
        errors: list[tuple[float, ...]] = []
        for name, value in exact.items():
            if name.startswith('out'):
                assert torch.equal(ours[name], plain[name]), name
            else:
                errors.append(tuple(float((g[name].double() - value).norm() / value.norm()) for g in (ours, plain)))
        ratios.append(mean(math.log(ours / plain) for ours, plain in errors))
    assert mean(ratios) <= 2 * stdev(ratios) / math.sqrt(len(ratios)), ratios


def under_autocast(net: nn.Module, image: Tensor, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Outputs, and gradients of a loss that is a fixed mean of them, scaled so that no gradient of fp16 is lost."""
    net.zero_grad()
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        outs = net(image)
    generator = torch.Generator().manual_seed(0)
    loss = sum(4000 * (out.double() * torch.randn(out.shape, generator=generator)).mean() for out in outs)
    loss.backward()  # type: ignore[union-attr]
    return {
        **{f'out {i}': out.detach() for i, out in enumerate(outs)},
        **{name: param.grad for name, param in net.named_parameters() if param.grad is not None},
    }


def test_compile_takes_the_plain_path() -> None:
    efficient, plain = pair(18)
    compiled = torch.compile(efficient, backend='eager', fullgraph=True)
    assert_same(gradients(efficient, run=compiled), gradients(plain))


def test_export_and_trace_take_the_plain_path() -> None:
    efficient, plain = pair(18)
    efficient.eval(), plain.eval()
    expected = plain(IMAGE)
    exported = torch.export.export(efficient, (IMAGE,)).module()
    traced = torch.jit.trace(efficient, IMAGE, check_trace=False)
    for module in (exported, traced):
        for a, b in zip(module(IMAGE), expected):
            assert relative_error(a, b) < 1e-10


def test_functional_transforms_and_forward_mode() -> None:
    efficient, plain = pair(18)
    params = {n: p.detach() for n, p in efficient.named_parameters() if p.requires_grad}

    def loss(net: nn.Module) -> Callable[..., Tensor]:
        return lambda params: torch.func.functional_call(net, params, (IMAGE,))[-1].sum()

    got, expected = (torch.func.grad(loss(net))(params) for net in (efficient, plain))
    assert_same(got, expected)
    tangents = []
    for net in (efficient, plain):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(IMAGE, torch.ones_like(IMAGE))
            tangents.append(torch.autograd.forward_ad.unpack_dual(net(dual)[-1]).tangent)
    assert relative_error(*tangents) < 1e-10


def test_untuned_is_the_class_itself_again() -> None:
    efficient, _ = pair()
    untuned = efficient.untuned()
    assert not any('forward' in part.__dict__ for part in untuned.modules())
    assert report(efficient.plain).efficient


def test_a_runner_s_way_of_a_copy(tmp_path: Any) -> None:
    """Copied before weights are loaded, as EMAHook does; saved and loaded whole."""
    efficient, plain = pair()
    early = copy.deepcopy(efficient)
    early.load_state_dict(fill(copy.deepcopy(plain), seed=4).state_dict())
    plain.load_state_dict(early.state_dict())
    assert_same(gradients(early), gradients(plain))
    torch.save(early, tmp_path / 'whole.pth')
    assert_same(gradients(torch.load(tmp_path / 'whole.pth', weights_only=False)), gradients(plain))


def test_kept_bytes_of_a_whole_network() -> None:
    """ResNet-50 keeps the stages' features, the prompts' hidden maps, and one bit for each element of a ReLU."""
    kept = {efficient: kept_bytes(efficient) for efficient in (True, False)}
    stages = [(256, 32), (512, 16), (1024, 8), (2048, 4)]  # (C_i, H_i) at 128×128
    features = sum(2 * c * h * h * 4 for c, h in stages)
    hidden = sum(2 * 2 * (8 * round(0.32 * c / 8)) * h * h * 4 for c, h in stages)
    blocks = {1: 4, 2: 6, 3: 3}
    relus = 0
    for i, number in blocks.items():
        c, h = stages[i]
        before = c // 4 * stages[i - 1][1] ** 2  # the first block's first convolution comes before the stride
        relus += 2 * (number * (c + 2 * c // 4) * h * h - c // 4 * h * h + before)
    statistics = 4 * 2 * 2 * 2 * 4  # a mean and a deviation of each image, norm and block: kept or not
    expected = features + hidden + relus // 8
    assert expected <= kept[True] <= expected + statistics
    assert kept[True] < 0.2 * kept[False]


def kept_bytes(efficient: bool) -> int:
    """Return the bytes that a forward pass of 2×3×128×128 saves for the backward pass, without weights."""
    net = ProTunedResNet(depth=50, host='mmdet', allow_random_backbone=True, efficient_frozen=efficient).train()
    disturb(net.prompts)
    outs: list[Tensor] = []
    kept = kept_memory(lambda: outs.extend(net(torch.randn(2, 3, 128, 128))), net)
    assert len(outs) == 4
    return round(kept * MIB)
