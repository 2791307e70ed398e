"""The prompt block and its blend as one node: the same results and gradients, with less kept."""

import copy
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protuning_mm import PromptBlock
from tests.plain import disturb, relative_error

INPUT = torch.randn(2, 16, 9, 11, generator=torch.Generator().manual_seed(0)).double()

SETTINGS: list[dict[str, Any]] = [
    {},
    dict(norm_cfg=dict(type='GN', num_groups=2), kernel_size=3),
    dict(norm_cfg=dict(type='BN'), act_cfg=dict(type='ReLU')),
    dict(norm_cfg=dict(type='BN', affine=False), act_cfg=dict(type='SiLU')),
    dict(norm_cfg=dict(type='BN', track_running_stats=False)),
    dict(norm_cfg=dict(type='IN'), act_cfg=dict(type='LeakyReLU', negative_slope=0.3)),
    dict(norm_cfg=dict(type='IN', track_running_stats=True)),
    dict(norm_cfg=None),
    dict(norm_cfg=None, act_cfg=dict(type='ReLU')),
    dict(norm_cfg=None, act_cfg=None, kernel_size=1),
    dict(act_cfg=dict(type='HSwish'), init='zero_scale'),
    dict(norm_cfg=dict(type='BN'), init='zero_scale', ratio=1.0),
    dict(relative=True),
    dict(norm_cfg=None, init='zero_scale', relative=True),
]


def pair(settings: dict[str, Any]) -> tuple[PromptBlock, PromptBlock]:
    block = PromptBlock(16, **settings).double()
    disturb(block)
    return block, copy.deepcopy(block)


def run(block: PromptBlock, x: Tensor, blended: bool) -> dict[str, Tensor]:
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = block.blend(leaf) if blended else leaf + block(leaf)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype))
    grads = {name: param.grad for name, param in block.named_parameters()}
    found = {'out': y.detach(), 'x': leaf.grad, **grads, **dict(block.named_buffers())}
    assert all(value is not None for value in found.values())
    return found  # type: ignore[return-value]


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_same_results_gradients_and_statistics(
    settings: dict[str, Any], training: bool, layout: torch.memory_format
) -> None:
    """Batch statistics too: they are gathered once for each forward pass."""
    block, same = (b.train(training) for b in pair(settings))
    x = INPUT.contiguous(memory_format=layout)
    for _ in range(2):
        got, expected = run(block, x, True), run(same, x, False)
        for name, value in expected.items():
            assert torch.allclose(got[name], value, rtol=1e-9, atol=1e-12 * (1 + float(value.double().abs().max()))), (
                name
            )
    with torch.no_grad():
        assert relative_error(block.eval().blend(x), same.eval()(x) + x) < 1e-12


def kept(block: PromptBlock, x: Tensor) -> list[Tensor]:
    """What a blend keeps, weights aside."""
    weights = {p.untyped_storage().data_ptr() for p in block.parameters()}
    found: dict[int, Tensor] = {}

    def note(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in weights:
            found[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        block.blend(x)
    return list(found.values())


@pytest.mark.parametrize('settings', [{}, dict(norm_cfg=dict(type='BN')), dict(init='zero_scale')], ids=str)
def test_keeps_the_feature_and_the_two_hidden_maps(settings: dict[str, Any]) -> None:
    block = pair(settings)[0]
    hidden = block.reduce.out_channels
    shapes = sorted(tuple(t.shape) for t in kept(block, INPUT) if t.dim() == 4 and len(t) == 2)
    assert shapes == sorted([(2, 16, 9, 11), (2, hidden, 9, 11), (2, hidden, 9, 11)])
    block.blend(INPUT)


def test_without_gradients_nothing_is_kept() -> None:
    block = pair({})[0]
    with torch.no_grad():
        assert block.blend(INPUT).grad_fn is None and not kept(block, INPUT)


def test_input_that_takes_no_gradient() -> None:
    """After a frozen first stage: the weights' gradients are the same."""
    block, same = pair({})
    block.blend(INPUT).square().sum().backward()
    (INPUT + same(INPUT)).square().sum().backward()
    for got, expected in zip(block.parameters(), same.parameters()):
        assert got.grad is not None and expected.grad is not None
        assert relative_error(got.grad, expected.grad) < 1e-10


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('settings', [{}, dict(norm_cfg=dict(type='BN')), dict(norm_cfg=None)], ids=str)
def test_autocast(dtype: torch.dtype, settings: dict[str, Any]) -> None:
    """The same types as plain torch, and values that differ as the exact ones do."""
    block, same = (b.float() for b in pair(settings))
    exact = run(pair(settings)[1], INPUT, False)
    with torch.autocast('cpu', dtype):
        got, expected = run(block, INPUT.float(), True), run(same, INPUT.float(), False)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype, name
        exactly = exact[name].double()
        far, usual = (float((t.double() - exactly).norm()) for t in (got[name], value))
        assert far <= 2 * usual + torch.finfo(dtype).eps * float(exactly.norm()), name


def test_whoever_looks_inside_sees_what_there_is() -> None:
    """With a hook on the block or in it, the block runs by itself."""
    for watched in ('', 'norm2'):
        block, same = pair({})
        seen: list[Tensor] = []
        block.get_submodule(watched).register_forward_hook(lambda module, args, y, seen=seen: seen.append(y) or y * 2)
        same.get_submodule(watched).register_forward_hook(lambda module, args, y: y * 2)
        got, expected = run(block, INPUT, True), run(same, INPUT, False)
        assert len(seen) == 1
        assert all(relative_error(got[n].double(), expected[n].double()) < 1e-9 for n in ('out', 'x', 'expand.weight'))


def test_a_layer_that_is_not_known() -> None:
    block, same = pair({})
    for b in (block, same):
        b.act = nn.Softplus()
    got, expected = run(block, INPUT, True), run(same, INPUT, False)
    assert all(torch.equal(got[n], expected[n]) for n in expected)


def test_weights_changed_in_between_are_noticed() -> None:
    """As torch notices it: the backward pass would use weights that the forward pass did not."""
    block = pair({})[0]
    y = block.blend(INPUT)
    with torch.no_grad():
        block.depthwise.weight.mul_(2)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        y.sum().backward()


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_double_backward(settings: dict[str, Any]) -> None:
    """Batch statistics are gathered once, however often the gradient is taken."""
    found = []
    for block, blended in zip(pair(settings), (True, False)):
        leaf = INPUT.clone().requires_grad_()
        y = block.blend(leaf) if blended else leaf + block(leaf)
        (grad,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
        grad.square().sum().backward()
        grads = {name: param.grad for name, param in block.named_parameters() if param.grad is not None}
        found.append({'x': leaf.grad, **grads, **dict(block.named_buffers())})
    got, expected = found
    assert set(got) == set(expected)
    for name, value in expected.items():
        scale = float(value.double().abs().max())
        assert torch.allclose(got[name], value, rtol=1e-9, atol=1e-12 * (1 + scale)), name


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_double_backward_under_autocast(dtype: torch.dtype) -> None:
    """About as far from the exact second derivative as plain torch's: two gradients are rounded, and then added."""
    errors: list[list[float]] = [[], []]
    for seed in range(4):
        x = torch.randn(2, 16, 9, 11, generator=torch.Generator().manual_seed(seed)).double()
        exact = penalty_grads(pair({})[1], x, False)
        for i, block in enumerate(pair({})):
            found = penalty_grads(block.float(), x.float(), i == 0, dtype)
            for name, value in exact.items():
                assert found[name].dtype == torch.float32
                errors[i].append(float((found[name].double() - value).norm() / value.norm()))
    assert median(errors[0]) < 2**0.5 * median(errors[1]) < 0.1


def penalty_grads(block: PromptBlock, x: Tensor, blended: bool, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    leaf = x.clone().requires_grad_()
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        y = block.blend(leaf) if blended else leaf + block(leaf)
    (grad,) = torch.autograd.grad(y.square().mean(), leaf, create_graph=True)
    params = {name: param for name, param in block.named_parameters() if name != 'expand.bias'}
    found = torch.autograd.grad(1000 * grad.square().sum(), [leaf, *params.values()])
    return dict(zip(('x', *params), found))
