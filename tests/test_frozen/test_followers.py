"""Whatever comes after a frozen layer, or is done to its input and output, works as after torch's own layer."""

import copy
import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protuning_mm import PromptBlock
from protuning_mm.frozen import freeze_efficiently
from tests.plain import fill, relative_error
from tests.test_frozen.cases import make_block, make_shortcut

Follower = Callable[[Tensor], Tensor]


class Blend(nn.Module):
    """A prompt block and its sum, by itself or as plain torch."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.block = PromptBlock(8, **settings)
        self.lean = False

    def forward(self, x: Tensor) -> Tensor:
        return self.block.blend(x) if self.lean else x + self.block(x)


def window_attention(**kwargs: Any) -> nn.Module:
    cls = importlib.import_module('mmdet.models.backbones.swin').WindowMSA
    module = cls(embed_dims=8, window_size=(2, 3), **kwargs)
    module.proj = nn.Identity()  # so that what attention returns is what the follower sees
    return module


def block(kind: str, shortcut: bool | None) -> nn.Module:
    """A residual block; ``shortcut`` is None for the identity, True with a pooling before its convolution."""
    planes = 2 if kind == 'Bottleneck' else 8
    down = None if shortcut is None else make_shortcut(8, 8, 2, shortcut)
    return make_block('timm', kind, 8, planes, stride=1 if down is None else 2, downsample=down)


def without_norms(module: Any) -> nn.Module:
    module.bn1, module.bn2 = nn.Identity(), nn.Identity()
    return module


LAYERS: dict[str, Callable[[], nn.Module]] = {
    '1×1 convolution': lambda: nn.Conv2d(8, 6, 1, bias=False),
    '1×1 convolution with bias': lambda: nn.Conv2d(8, 6, 1),
    '1×1 convolution with stride': lambda: nn.Conv2d(8, 6, 1, 2),
    '3×3 convolution': lambda: nn.Conv2d(8, 6, 3, padding=1),
    'norm': lambda: nn.BatchNorm2d(8),
    'BasicBlock': lambda: block('BasicBlock', None),
    'Bottleneck': lambda: block('Bottleneck', None),
    'Bottleneck with a convolution': lambda: block('Bottleneck', False),
    'Bottleneck with a pooling': lambda: block('Bottleneck', True),
    'BasicBlock without norms': lambda: without_norms(block('BasicBlock', None)),
    'window attention, one head': lambda: window_attention(num_heads=1),
    'window attention, two heads': lambda: window_attention(num_heads=2),
    'prompt block': Blend,
    'prompt block, no norm': lambda: Blend(norm_cfg=None, act_cfg=dict(type='ReLU', inplace=True)),
    'prompt block, activation in place': lambda: Blend(norm_cfg=None, act_cfg=dict(type='SiLU', inplace=True)),
}


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """A frozen layer run efficiently, and plain; what takes a gradient in it is what would in a network."""
    torch.manual_seed(0)
    plain = fill(LAYERS[name]()).double().eval().requires_grad_(name.startswith('prompt'))
    if name == '1×1 convolution with bias' or name == 'norm':
        plain.bias.requires_grad_()
    taken = copy.deepcopy(plain)
    if isinstance(taken, Blend):
        taken.lean = True
    else:
        assert '' in freeze_efficiently(taken).efficient
    return taken, plain


def shape(name: str) -> tuple[int, ...]:
    return (4, 6, 8) if 'attention' in name else (2, 8, 5, 6)


def trained(y: Tensor) -> Tensor:
    return torch.linspace(-1, 1, y[0].numel(), dtype=y.dtype).view(y[0].shape).requires_grad_()


def in_a_slice(y: Tensor) -> Tensor:
    y[:, 0] = 0
    y[1:] += 1
    return y


def through_a_view(y: Tensor) -> Tensor:
    y.view(-1).mul_(3)
    return y


def through_an_older_view(y: Tensor) -> Tensor:
    flat = y.flatten(1)
    flat.add_(1)
    return y * flat.sum()


def retained(y: Tensor) -> Tensor:
    if y.requires_grad:
        y.retain_grad()
    return y.mul_(2)


def hooked(y: Tensor) -> Tensor:
    if y.requires_grad:
        y.register_hook(lambda grad: grad * 2)
    return y.relu()


# each with the same thing done to a copy: what plain torch refuses in place, may be computed here, but rightly
FOLLOWERS: dict[str, Follower] = {
    'nothing': lambda y: y,
    'relu_': lambda y: y.relu_(),
    'ReLU6 in place': lambda y: F.relu6(y, inplace=True),
    'hardswish in place': lambda y: F.hardswish(y, inplace=True),
    'SiLU in place': lambda y: F.silu(y, inplace=True),
    'leaky ReLU in place': lambda y: F.leaky_relu(y, 0.1, inplace=True),
    'dropout in place': lambda y: F.dropout(y, 0.0, inplace=True),
    'add_ of what is trained': lambda y: y.add_(trained(y)),
    '+= itself': lambda y: y.add_(y),
    'mul_': lambda y: y.mul_(2.5),
    'copy_': lambda y: y.copy_(y.detach() * 2),
    'a slice is written': in_a_slice,
    'a view is written': through_a_view,
    'an older view is written': through_an_older_view,
    'view': lambda y: y.view(len(y), -1).t() * 2,
    'transposed in place': lambda y: y.transpose_(0, 1),
    'detach_': lambda y: y.detach_(),
    'retain_grad': retained,
    'tensor hook': hooked,
    'requires_grad_': lambda y: y if y.requires_grad else y.requires_grad_(),
}


def run(layer: nn.Module, name: str, follow: Follower, of_input: bool, input_after: bool = False) -> dict[str, Tensor]:
    """Output and gradients with ``follow`` after the layer, or the words of the error."""
    layer.zero_grad()
    leaf = torch.randn(shape(name), generator=torch.Generator().manual_seed(3)).double().requires_grad_(of_input)
    x = leaf * 1.5 if of_input else leaf
    before = x.detach().clone()
    y = layer(x)
    assert torch.equal(x, before)
    if input_after:
        follow(x)
        y = y * 1
    else:
        y = follow(y)
        assert torch.equal(x, before), 'the input shares memory with the output'
    found = {'y': y.detach().clone()}
    if y.requires_grad:
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(4)).double()
        given = grad.clone()
        y.backward(given)
        assert torch.equal(given, grad), 'the gradient that was given has changed'
    named = [('x', leaf), *layer.named_parameters()]
    return found | {n: t.grad for n, t in named if t.grad is not None}


@pytest.mark.parametrize('of_input', [True, False], ids=['gradient of the input', 'none'])
@pytest.mark.parametrize('name', LAYERS)
def test_output_may_be_changed(name: str, of_input: bool) -> None:
    taken, plain = pair(name)
    for followed_by, follow in FOLLOWERS.items():
        expected = by_plain_torch(plain, name, follow, of_input)
        compare(run(taken, name, follow, of_input), expected, followed_by)


def by_plain_torch(plain: nn.Module, name: str, follow: Follower, of_input: bool) -> dict[str, Tensor]:
    """What plain torch computes, on a copy of the output where that is refused: a ReLU keeps its own."""
    try:
        return run(plain, name, follow, of_input)
    except RuntimeError:
        return run(plain, name, lambda y: follow(y.clone()), of_input)


def compare(got: dict[str, Tensor], expected: dict[str, Tensor], what: str = '') -> None:
    assert set(got) == set(expected), what
    for key, value in expected.items():
        assert relative_error(got[key], value) < 1e-12, f'{key}, {what}'


@pytest.mark.parametrize('follow', [FOLLOWERS['mul_'], FOLLOWERS['a view is written']], ids=['mul_', 'view'])
@pytest.mark.parametrize('name', LAYERS)
def test_input_may_be_changed_afterwards(name: str, follow: Follower) -> None:
    """Either it is not needed any more, or autograd notices."""
    taken, plain = pair(name)
    expected = run(plain, name, lambda x: x, True, input_after=True)
    try:
        compare(run(taken, name, follow, True, input_after=True), expected)
    except RuntimeError as error:
        assert 'modified by an inplace operation' in str(error)
        with pytest.raises(RuntimeError, match='modified by an inplace operation'):
            run(plain, name, follow, True, input_after=True)


MODULE_HOOKS: dict[str, tuple[str, Callable[..., Any]]] = {
    'the output in place': ('forward_hook', lambda m, args, y: y.mul_(2)),
    'another output': ('forward_hook', lambda m, args, y: y * 2),
    'another input': ('forward_pre_hook', lambda m, args: args[0] * 2),
    'another gradient of the input': ('full_backward_hook', lambda m, grads, outs: (grads[0] * 3,)),
    'another gradient of the output': ('full_backward_pre_hook', lambda m, grads: (grads[0] * 3,)),
}


@pytest.mark.parametrize('name', LAYERS)
def test_hooks_on_the_layer(name: str) -> None:
    layers = pair(name)
    for what, (kind, hook) in MODULE_HOOKS.items():
        handles = [getattr(layer, f'register_{kind}')(hook) for layer in layers]
        got = run(layers[0], name, lambda y: y, True)
        if what == 'the output in place':  # plain torch refuses it after a ReLU
            handles.pop().remove()
            handles.append(layers[1].register_forward_hook(MODULE_HOOKS['another output'][1]))
        compare(got, run(layers[1], name, lambda y: y, True), what)
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize('name', LAYERS)
def test_weights_may_be_changed_afterwards(name: str) -> None:
    """The gradient is that of the weights of the forward pass, or autograd notices."""
    taken, plain = pair(name)
    expected = run(plain, name, lambda y: y, True)

    def change(layer: nn.Module) -> Follower:
        def follow(y: Tensor) -> Tensor:
            with torch.no_grad():
                for tensor in (*layer.parameters(), *layer.buffers()):
                    tensor.mul_(2)
            return y

        return follow

    try:
        compare(run(taken, name, change(taken), True), expected)
    except RuntimeError as error:
        assert 'modified by an inplace operation' in str(error)
