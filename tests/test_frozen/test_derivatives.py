"""Derivatives of every order and kind through frozen layers are those of plain torch."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from protuning_mm.backbones import TunedBackbone
from tests.families import FAMILIES, flat
from tests.plain import fill, relative_error
from tests.test_frozen.test_followers import LAYERS, pair, shape

Result = Sequence[Tensor | None]


def draw(size: Sequence[int], seed: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).double()


def fixed(y: Tensor) -> Tensor:
    return torch.linspace(-1, 2, y.numel(), dtype=torch.float64).view(y.shape)


def bent(y: Tensor) -> Tensor:
    """A loss whose gradient depends on y."""
    return (y * fixed(y)).square().sum() + y.pow(3).mean()


def linear(y: Tensor) -> Tensor:
    """A loss whose gradient is a constant: nothing after the layer asks for a derivative of it."""
    return (y * fixed(y)).sum()


def leaves(layer: nn.Module, x: Tensor) -> list[Tensor]:
    return [x, *(param for param in layer.parameters() if param.requires_grad)]


def gradient(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss(layer(x)), leaves(layer, x), create_graph=True)


def penalty(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    """A gradient penalty: the gradients of |∂loss/∂x|², where there are any."""
    grads = gradient(layer, x, loss)
    if not grads[0].requires_grad:
        return grads
    return torch.autograd.grad(grads[0].square().sum(), leaves(layer, x), allow_unused=True)


def product(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    """A Hessian-vector product over x and the parameters."""
    grads = [grad for grad in gradient(layer, x, loss) if grad.requires_grad]
    if not grads:
        return grads
    directions = [draw(grad.shape, i) for i, grad in enumerate(grads)]
    return torch.autograd.grad(grads, leaves(layer, x), directions, allow_unused=True)


def third(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    grads = gradient(layer, x, loss)
    for _ in range(2):
        kept = [grad for grad in grads if grad is not None and grad.requires_grad]
        if not kept:
            return grads
        norm = sum(grad.square().sum() for grad in kept)
        assert isinstance(norm, Tensor)
        grads = torch.autograd.grad(norm, leaves(layer, x), create_graph=True, allow_unused=True)
    return grads


def batched(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    y = layer(x)
    return torch.autograd.grad(y, leaves(layer, x), draw((3, *y.shape), 2), is_grads_batched=True)


def batched_twice(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    y = layer(x)
    of = leaves(layer, x)
    v = draw(y.shape, 3).requires_grad_()
    grads = torch.autograd.grad(y, of, v * draw((3, *y.shape), 2), is_grads_batched=True, create_graph=True)
    again = torch.autograd.grad(bent(grads[0]), [*of, v], allow_unused=True)
    hessian = gradient(layer, x, loss)
    if hessian[0].requires_grad:
        again += torch.autograd.grad(hessian[0], of, draw((3, *x.shape), 2), is_grads_batched=True, allow_unused=True)
    return [*grads, *again]


def mapped(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    y = layer(x)
    of = leaves(layer, x)
    found: Result = torch.func.vmap(lambda v: torch.autograd.grad(y, of, v, retain_graph=True))(draw((3, *y.shape), 2))
    return found


def forward_over_reverse(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    """A tangent that only the given gradient has."""
    y = layer(x)
    with forward_ad.dual_level():
        grad = forward_ad.make_dual(draw(y.shape, 1), draw(y.shape, 2))
        found = torch.autograd.grad(y, leaves(layer, x), grad)
        return [part for dual in found for part in forward_ad.unpack_dual(dual)]


def tangent_of_input(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(layer(forward_ad.make_dual(x, draw(x.shape, 1))))


def tangent_of_weights(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    """Of a frozen weight, and of nothing else."""
    name, weight = next((n, p) for n, p in layer.named_parameters() if 'weight' in n or 'bias_table' in n)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(weight.detach(), draw(weight.shape, 1))
        y = torch.func.functional_call(layer, {name: dual}, (x,))
        return [*forward_ad.unpack_dual(y), *torch.autograd.grad(linear(forward_ad.unpack_dual(y).primal), x)]


def by_transforms(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    x = (x if x.dim() == 3 else x[..., :3]).detach()

    def value(x: Tensor) -> Tensor:
        return loss(layer(x))

    y, pullback = torch.func.vjp(layer, x)
    return [
        *torch.func.jvp(layer, (x,), (draw(x.shape, 1),)),
        y,
        *pullback(draw(y.shape, 1)),
        torch.func.jacrev(layer)(x[:1]),
        torch.func.jacfwd(layer)(x[:1]),
        torch.func.hessian(value)(x[:1]),
        torch.func.vmap(lambda x: layer(x.unsqueeze(0)))(x) if x.dim() == 4 else None,
    ]


def by_functional(layer: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> Result:
    x = (x[:1] if x.dim() == 3 else x[:1, ..., :3]).detach()

    def value(x: Tensor) -> Tensor:
        return loss(layer(x))

    found: list[Any] = [torch.autograd.functional.hessian(value, x)]
    found += [
        torch.autograd.functional.jacobian(layer, x, vectorize=True, strategy=strategy)
        for strategy in ('reverse-mode', 'forward-mode')
    ]
    return [*found, *torch.autograd.functional.hvp(value, x, draw(x.shape, 1))]


KINDS: dict[str, Callable[..., Result]] = {
    'gradient penalty': penalty,
    'Hessian-vector product': product,
    'third derivatives': third,
    'batched gradients': batched,
    'batched gradients, differentiated': batched_twice,
    'mapped gradients': mapped,
    'forward over reverse': forward_over_reverse,
    'tangent of the input': tangent_of_input,
    'tangent of the weights': tangent_of_weights,
    'torch.func': by_transforms,
    'torch.autograd.functional': by_functional,
}


# a group norm's gradient and SiLU's have no forward-mode derivative; a group norm's batched gradient has no gradient
REFUSED_BY_TORCH = {
    ('prompt block', forward_over_reverse),
    ('prompt block', tangent_of_weights),
    ('prompt block', batched_twice),
    ('prompt block, activation in place', forward_over_reverse),
    ('prompt block, activation in place', tangent_of_weights),
}


@pytest.mark.parametrize('kind', KINDS.values(), ids=KINDS)
@pytest.mark.parametrize('name', LAYERS)
def test_derivatives_are_those_of_plain_torch(name: str, kind: Callable[..., Result]) -> None:
    taken, plain = pair(name)
    for loss in (bent, linear):
        x = draw(shape(name), 0).requires_grad_()
        if (name, kind) in REFUSED_BY_TORCH:
            for layer in (plain, taken):
                with pytest.raises(RuntimeError, match='does not support|must match the size'):
                    kind(layer, x, loss)
            continue
        expected = kind(plain, x, loss)
        got = kind(taken, x, loss)
        assert len(got) == len(expected) > 0
        for i, (a, b) in enumerate(zip(got, expected)):
            assert_same(a, b, f'{i} of {loss.__name__}')


def assert_same(got: Tensor | None, expected: Tensor | None, what: str) -> None:
    """No gradient and one of zeros are the same."""
    if got is None or expected is None:
        assert all(part is None or not part.any() for part in (got, expected)), what
    else:
        assert relative_error(got, expected) < 1e-10 or not (got.any() or expected.any()), what


@pytest.mark.parametrize('loss', [bent, linear])
@pytest.mark.parametrize('tuning', ['pro', 'bias'])
@pytest.mark.parametrize('family', ['mmdet.ResNet50', 'mmpretrain.ResNetV1d', 'mmdet.Swin', 'timm.regnet'])
def test_gradient_penalty_of_a_network(family: str, tuning: str, loss: Callable[[Tensor], Tensor]) -> None:
    """The penalty of R1: its gradients by the image and by every trained parameter."""
    results = []
    for efficient in (True, False):
        torch.manual_seed(0)
        net = TunedBackbone(FAMILIES[family], tuning, allow_random_backbone=True, efficient_frozen=efficient)
        fill(net).double().train()
        image = draw((1, 3, 64, 64), 0).requires_grad_()
        (grad,) = torch.autograd.grad(loss(flat(net(image))[-1]), image, create_graph=True)
        trained = {name: param for name, param in net.named_parameters() if param.requires_grad}
        assert trained
        grads = torch.autograd.grad(grad.square().sum(), [image, *trained.values()], allow_unused=True)
        results.append(dict(zip(('image', *trained), grads)))
    got, expected = results
    assert set(got) == set(expected)
    for name, value in expected.items():
        assert_same(got[name], value, name)
    assert tuning == 'bias' or any(value is not None and value.any() for value in expected.values())
