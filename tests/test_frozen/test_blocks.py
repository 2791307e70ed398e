"""A frozen residual block as one node: the outputs and gradients of plain torch, and one bit kept for each element."""

import copy
import math

import pytest
import torch
from hypothesis import assume, given
from torch import Tensor, nn

from protuning_mm.frozen import freeze_efficiently
from protuning_mm.frozen.memory_efficient_block import ResidualBlock
from tests.plain import fill, relative_error
from tests.test_frozen.cases import HOSTS, blocks, make_block, make_shortcut, output_and_grad, run_often


def efficient(block: nn.Module) -> nn.Module:
    """A copy that is taken over."""
    taken = copy.deepcopy(block)
    report = freeze_efficiently(taken)
    assert list(report.efficient) == [''] and not report.fallback, report
    return taken


@run_often(300)
@given(blocks())
def test_outputs_and_gradients_are_those_of_plain_torch(case: tuple[nn.Module, Tensor]) -> None:
    """In double precision: there rounding turns no ReLU, so that nothing but an error would show."""
    block, x = case
    block, x = block.double(), x.double()
    taken = efficient(block)
    expected, expected_grad = output_and_grad(block, x)
    got, got_grad = output_and_grad(taken, x)
    assert relative_error(got, expected) < 1e-12
    assert relative_error(got_grad, expected_grad) < 1e-12
    assert got.stride() == expected.stride() or 1 in expected.shape
    with torch.no_grad():
        assert relative_error(taken(x), expected) < 1e-12


@run_often(100)
@given(blocks())
def test_single_precision(case: tuple[nn.Module, Tensor]) -> None:
    """The gradient is compared where both agree on every ReLU: a sum that rounds to another sign jumps."""
    block, x = case
    taken = efficient(block)
    expected, expected_grad = output_and_grad(block, x)
    got, got_grad = output_and_grad(taken, x)
    assert relative_error(got, expected) < 1e-5
    exact = output_and_grad(copy.deepcopy(block).double(), x.double())[1]
    assume(relative_error(expected_grad, exact) < 1e-5)
    assert relative_error(got_grad, expected_grad) < 1e-4


def torch_is_right(block: nn.Module, x: Tensor, dtype: torch.dtype) -> bool:
    """Whether torch's own convolutions write their whole result.

    On CPUs with AMX, torch 2.13 leaves what was in memory in the result of some dilated convolutions in bfloat16.
    """
    convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    seen: list[tuple[nn.Conv2d, Tensor]] = []
    hooks = [conv.register_forward_hook(lambda module, args, y: seen.append((module, args[0]))) for conv in convs]
    block(x)
    for hook in hooks:
        hook.remove()
    for conv, inputs in seen:
        low, weight = inputs.to(dtype), conv.weight.to(dtype)
        how = (conv.stride, conv.padding, conv.dilation, conv.groups)
        exact = nn.functional.conv2d(low.double(), weight.double(), None, *how)
        torch.full(exact.shape, 1e4, dtype=dtype)  # its memory is taken next
        if not relative_error(nn.functional.conv2d(low, weight, None, *how).double(), exact) < 0.1:
            return False
    return True


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@run_often(60)
@given(blocks())
def test_autocast_is_no_further_from_the_exact_result(dtype: torch.dtype, case: tuple[nn.Module, Tensor]) -> None:
    block, x = case
    assume(torch_is_right(block, x, dtype))
    taken = efficient(block)
    exact = block(x)
    with torch.autocast('cpu', dtype):
        plain, got = block(x), taken(x)
        leaf = x.clone().requires_grad_()
        y = taken(leaf)
    assert got.dtype == plain.dtype == y.dtype == dtype
    y.sum().backward()
    assert leaf.grad is not None and leaf.grad.dtype == torch.float32
    # one rounding step of the largest value is what a single element may differ by, by luck
    step = torch.finfo(dtype).eps
    assert relative_error(got.float(), exact) <= 1.5 * relative_error(plain.float(), exact) + step


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('kind', ['BasicBlock', 'Bottleneck'])
@pytest.mark.parametrize('averaged', [None, False, True], ids=['identity', 'convolution', 'pooling'])
def test_keeps_one_bit_for_each_relu_and_nothing_else(host: str, kind: str, averaged: bool | None) -> None:
    expansion = 4 if kind == 'Bottleneck' else 1
    out, stride = 8 * expansion, 1 if averaged is None else 2
    channels = out if averaged is None else 16
    down = None if averaged is None else make_shortcut(channels, out, stride, averaged)
    block = fill(make_block(host, kind, channels, 8, stride=stride, downsample=down)).eval().requires_grad_(False)
    taken = efficient(block)
    relus: list[int] = []
    for part in block.modules():
        if isinstance(part, nn.ReLU):
            part.register_forward_hook(lambda module, args, y: relus.append(y.numel()))
    x = torch.randn(2, channels, 13, 11, requires_grad=True)
    block(x)
    assert len(relus) == (3 if kind == 'Bottleneck' else 2)
    kept = saved(taken, x)
    assert [(t.dtype, t.numel()) for t in kept] == [(torch.uint8, math.ceil(n / 8)) for n in relus]


def saved(module: nn.Module, x: Tensor) -> list[Tensor]:
    """The tensors that are kept for the backward pass."""
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = module(x)
    # what a node of ours holds beside what it saved: nothing but weights and sizes
    node = y.grad_fn
    assert type(node).__name__ == f'{ResidualBlock.__name__}Backward'
    own = {id(t) for conv in (*node.block.branch, node.block.shortcut or ()) for t in conv if isinstance(t, Tensor)}
    assert not [v for v in vars(node).values() if isinstance(v, Tensor) and id(v) not in own]
    return kept


def test_input_is_left_alone() -> None:
    block = fill(make_block('mmdet', 'Bottleneck', 32, 8)).eval().requires_grad_(False)
    x = torch.randn(2, 32, 7, 7, requires_grad=True)
    before = x.detach().clone()
    efficient(block)(x).sum().backward()
    assert torch.equal(x, before)


def test_gradient_given_is_left_alone() -> None:
    block = fill(make_block('mmdet', 'Bottleneck', 32, 8)).eval().requires_grad_(False)
    y = efficient(block)(torch.randn(2, 32, 7, 7, requires_grad=True))
    grad = torch.randn_like(y)
    before = grad.clone()
    y.backward(grad)
    assert torch.equal(grad, before)


@pytest.mark.parametrize('kind', ['BasicBlock', 'Bottleneck'])
def test_no_images(kind: str) -> None:
    block = efficient(
        fill(make_block('mmdet', kind, 32, 8 if kind == 'Bottleneck' else 32)).eval().requires_grad_(False)
    )
    x = torch.empty(0, 32, 7, 7, requires_grad=True)
    y = block(x)
    y.sum().backward()
    assert y.shape == (0, 32, 7, 7) and x.grad is not None and x.grad.shape == x.shape
