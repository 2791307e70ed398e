"""PromptBlock: its structure, its start, its budget, and what it refuses."""

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from protuning_mm import PromptBlock
from tests.plain import disturb, image, prompt_by_hand, relative_error

INPUT = torch.randn(2, 16, 9, 11, generator=torch.Generator().manual_seed(0))


def test_is_1x1_then_depthwise_5x5_then_1x1() -> None:
    """The paper's structure, in order, with nothing else that has a kernel."""
    convs = [m for m in PromptBlock(64).modules() if isinstance(m, nn.Conv2d)]
    assert [conv.kernel_size for conv in convs] == [(1, 1), (5, 5), (1, 1)]
    hidden = convs[0].out_channels
    assert convs[1].groups == convs[1].in_channels == convs[1].out_channels == hidden
    assert (convs[0].in_channels, convs[2].out_channels) == (64, 64)


@pytest.mark.parametrize('kernel_size', [1, 3, 5, 7])
@pytest.mark.parametrize('groups', [1, 4])
def test_equals_formulas(kernel_size: int, groups: int) -> None:
    """Same numbers as the block written out in functional torch, on an odd size."""
    block = PromptBlock(16, ratio=0.5, kernel_size=kernel_size, norm_cfg=dict(type='GN', num_groups=groups))
    disturb(block)
    expected = prompt_by_hand(block.state_dict(), INPUT, groups)
    assert expected.abs().max() > 0.1
    assert relative_error(block(INPUT), expected) < 1e-5


def test_without_norm_equals_formulas() -> None:
    """Without a norm the first two convolutions have biases of their own."""
    block = PromptBlock(16, norm_cfg=None, act_cfg=dict(type='GELU'), init='random')
    for param in block.parameters():
        nn.init.normal_(param, 0, 0.3)
    s = dict(block.named_parameters())
    x = F.gelu(F.conv2d(INPUT, s['reduce.weight'], s['reduce.bias']))
    x = F.conv2d(x, s['depthwise.weight'], s['depthwise.bias'], padding=2, groups=x.shape[1])
    expected = F.conv2d(F.gelu(x), s['expand.weight'], s['expand.bias'])
    assert relative_error(block(INPUT), expected) < 1e-5


@pytest.mark.parametrize('factor', [0.01, 8.0, 1000.0])
def test_relative_prompt_grows_with_the_features(factor: float) -> None:
    """P(c x) = c P(x), because the norms remove the factor c and the root mean square restores it."""
    block = PromptBlock(16, relative=True).double()
    disturb(block)
    for norm in (block.norm1, block.norm2):
        norm.eps = 0.0
    x = INPUT.double()
    assert relative_error(block(factor * x), factor * block(x)) < 1e-9
    fixed = PromptBlock(16, relative=False).double()
    disturb(fixed)
    assert relative_error(fixed(factor * x), factor * fixed(x)) > 0.5


def test_factor_is_a_constant_for_the_gradient() -> None:
    block = PromptBlock(16, relative=True).double()
    disturb(block)
    x = INPUT.double().requires_grad_()
    factor = (x.detach() ** 2).mean((1, 2, 3), keepdim=True).sqrt()
    fixed = PromptBlock(16, relative=False).double()
    fixed.load_state_dict({key: value for key, value in block.state_dict().items() if key != 'relative'})
    (expected,) = torch.autograd.grad((fixed(x) * factor).square().sum(), x)
    (got,) = torch.autograd.grad(block(x).square().sum(), x)
    assert relative_error(got, expected) < 1e-12


@pytest.mark.parametrize('relative', [True, False])
def test_weights_of_a_block_that_is_relative_fit_no_other(relative: bool) -> None:
    """Also not where keys need not match, as mmengine loads."""
    trained = PromptBlock(16, relative=relative)
    disturb(trained)
    same, other = PromptBlock(16, relative=relative), PromptBlock(16, relative=not relative)
    same.load_state_dict(trained.state_dict())
    assert ('relative' in same.state_dict()) == relative
    assert relative_error(same(INPUT), prompt_by_hand(trained.state_dict(), INPUT)) < 1e-5
    with pytest.raises(RuntimeError, match=f'set relative={relative} of the prompt blocks'):
        other.load_state_dict(trained.state_dict(), strict=False)


def test_loading_a_network_without_prompts_is_not_rejected() -> None:
    PromptBlock(16, relative=True).load_state_dict({}, strict=False)


def test_zero_scale_multiplies_each_channel() -> None:
    block = PromptBlock(16, init='zero_scale')
    disturb(block)
    state = block.state_dict()
    scale = torch.linspace(-1, 1, 16)
    state['scale'].copy_(scale[:, None, None])
    expected = prompt_by_hand(state, INPUT) * scale[None, :, None, None]
    assert relative_error(block(INPUT), expected) < 1e-5


@pytest.mark.parametrize('norm', ['GN', 'BN', 'IN', 'SyncBN', None])
def test_every_norm_runs_in_training_and_eval(norm: str | None) -> None:
    norm_cfg = None if norm is None else dict(type=norm)
    block = PromptBlock(16, norm_cfg=norm_cfg)
    if norm != 'SyncBN':  # refuses CPU tensors in training
        assert block.train()(INPUT).shape == INPUT.shape
    assert block.eval()(INPUT).shape == INPUT.shape


@pytest.mark.parametrize('init', ['zero_conv', 'zero_scale'])
@pytest.mark.parametrize('norm_cfg', [dict(type='GN', num_groups=1), dict(type='BN'), None])
def test_starts_as_the_identity(init: str, norm_cfg: dict | None) -> None:
    """x + prompt(x) is x, bit for bit; with init='random' it is not."""
    x = INPUT
    assert torch.equal(x + PromptBlock(16, init=init, norm_cfg=norm_cfg)(x), x)
    assert not torch.allclose(x + PromptBlock(16, init='random', norm_cfg=norm_cfg)(x), x)


@pytest.mark.parametrize('init', ['zero_conv', 'zero_scale', 'random'])
@pytest.mark.parametrize('norm_cfg', [dict(type='GN', num_groups=1), dict(type='BN'), None])
def test_every_parameter_learns_by_the_second_step(init: str, norm_cfg: dict | None) -> None:
    """A zero start must not block a gradient for good: by step two each parameter has had one that is not zero."""
    block = PromptBlock(16, init=init, norm_cfg=norm_cfg)
    optimizer = torch.optim.SGD(block.parameters(), lr=0.1)
    target = torch.randn(INPUT.shape, generator=torch.Generator().manual_seed(1))
    moved = set()
    for _ in range(2):
        optimizer.zero_grad()
        (INPUT + block(INPUT) - target).square().mean().backward()
        moved |= {name for name, p in block.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert moved == {name for name, _ in block.named_parameters()}


def test_init_weights_gives_the_start_again() -> None:
    block = PromptBlock(16, init='zero_scale')
    disturb(block)
    assert block(INPUT).any()
    block.init_weights()
    assert not block(INPUT).any()
    assert block.expand.weight.any()


@pytest.mark.parametrize(
    ('channels', 'ratio', 'kernel_size', 'hidden'),
    [(256, 0.32, 5, 80), (512, 0.32, 5, 160), (64, 0.5, 3, 32), (16, 0.01, 5, 8), (24, 1.0, 7, 24)],
)
def test_parameter_count(channels: int, ratio: float, kernel_size: int, hidden: int) -> None:
    """C·h + k²·h + h·C weights, C biases, and two norms of 2h; h is 0.32 C to a multiple of 8."""
    block = PromptBlock(channels, ratio, kernel_size)
    expected = 2 * channels * hidden + kernel_size**2 * hidden + channels + 4 * hidden
    assert sum(p.numel() for p in block.parameters()) == expected


def test_four_blocks_of_a_resnet50_hold_the_published_budget() -> None:
    """3.614 M ± 1 % for ResNet-50's and ResNet-101's 256, 512, 1024, 2048 channels."""
    count = sum(p.numel() for c in (256, 512, 1024, 2048) for p in PromptBlock(c).parameters())
    assert count == pytest.approx(3.614e6, rel=0.01)


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (dict(kernel_size=4), 'kernel_size=4'),
        (dict(kernel_size=0), 'kernel_size=0'),
        (dict(kernel_size=-3), 'kernel_size=-3'),
        (dict(kernel_size=5.0), 'kernel_size=5.0'),
        (dict(kernel_size=(5, 5)), 'kernel_size=(5, 5)'),
        (dict(ratio=0), 'ratio=0'),
        (dict(ratio=-0.5), 'ratio=-0.5'),
        (dict(ratio=float('nan')), 'ratio=nan'),
        (dict(norm_cfg=dict(type='NoNorm')), "'NoNorm'"),
        (dict(norm_cfg=dict(num_groups=2)), "norm_cfg={'num_groups': 2}"),
        (dict(norm_cfg=dict(type='BN', momentums=1)), 'momentums'),
        (dict(act_cfg=dict(type='Relu')), "'Relu'"),
        (dict(act_cfg=dict(type='ReLU', slope=1)), 'slope'),
        (dict(init='zero'), "init='zero'"),
        (dict(norm_cfg=dict(type='GN', num_groups=7)), "'num_groups': 7"),
    ],
)
def test_refuses_and_names_what_was_written(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        PromptBlock(16, **wrong)


@pytest.mark.parametrize('size', [(1, 1), (7, 1), (13, 10)])
def test_keeps_the_size_of_its_feature(size: tuple[int, int]) -> None:
    x = image(*size)[:, :1].repeat(1, 16, 1, 1)
    assert PromptBlock(16, init='random')(x).shape == x.shape


def test_norm_without_gradient() -> None:
    """requires_grad=False in norm_cfg freezes the norm, as in mmcv."""
    block = PromptBlock(16, norm_cfg=dict(type='BN', requires_grad=False))
    still = {name for name, p in block.named_parameters() if not p.requires_grad}
    assert still == {'norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias'}
