"""The prompt block and its blend as one autograd node, which saves only what the gradients need.

x̃ = x + s (W_3 a_2 + b_3), a_2 = φ(norm(h_2)), h_2 = W_2 * a_1 (depth-wise), a_1 = φ(norm(h_1)), h_1 = W_1 x, with a
constant s for each image. Saved are the
stage's feature map x and the hidden maps h_1 and h_2. The backward pass recomputes norms and activations from them,
which is cheap and exact. torch would save the results of norms and activations as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protuning_mm.frozen.conditions import autocast_settings
from protuning_mm.frozen.conv import ConvOp
from protuning_mm.frozen.higher_order import is_observed

# activations without state
_ACTS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.Identity)


@dataclass(frozen=True)
class NormAct:
    """A norm and the activation after it, which the backward pass can recompute.

    Args:
        norm (nn.Module): The norm; calling it updates its running statistics, if it has any.
        act (nn.Module): The activation.
        again (Callable): The norm as a function of (h, weight, bias) without side effects.
    """

    norm: Any
    act: nn.Module
    again: Callable[[Tensor, Tensor | None, Tensor | None], Tensor]

    def __call__(self, h: Tensor) -> Tensor:
        return self._act(self.norm(h), h)

    def run_again(self, h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """Recompute the result without updating running statistics."""
        return self._act(self.again(h, weight, bias), h)

    def _act(self, normed: Tensor, h: Tensor) -> Tensor:
        if normed is not h and type(self.act) is nn.ReLU:
            return normed.relu_()
        if normed is h and getattr(self.act, 'inplace', False):
            normed = h.clone()  # h is saved for the backward pass and must not be overwritten
        acted: Tensor = self.act(normed)
        return acted

    def grads(self, h: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Callable[..., Any]]:
        """Return the activation a, and a function from the gradient of a to the gradients of h, weight and bias."""
        leaves = [None if t is None else t.detach().requires_grad_() for t in (h, weight, bias)]
        with torch.enable_grad():
            a = self.run_again(*leaves)  # type: ignore[arg-type]

        def backward(grad: Tensor) -> list[Tensor | None]:
            wanted = [leaf for leaf in leaves if leaf is not None]
            found = iter(torch.autograd.grad(a, wanted, grad.to(a.dtype)))
            return [None if leaf is None else next(found) for leaf in leaves]

        return a.detach(), backward


def norm_act(norm: Any, act: nn.Module) -> NormAct | None:
    """Read a norm and an activation; return None if they cannot be recomputed."""
    again = _again(norm) if type(act) in _ACTS else None
    return None if again is None else NormAct(norm, act, again)


def _again(norm: Any) -> Callable[[Tensor, Tensor | None, Tensor | None], Tensor] | None:
    if type(norm) is nn.Identity:
        return lambda h, weight, bias: h
    if type(norm) is nn.GroupNorm:
        return lambda h, weight, bias: F.group_norm(h, norm.num_groups, weight, bias, norm.eps)
    if type(norm) is nn.InstanceNorm2d and not norm.track_running_stats:
        return lambda h, weight, bias: F.instance_norm(h, None, None, weight, bias, True, 0, norm.eps)
    if type(norm) is nn.BatchNorm2d:
        of_batch = norm.training or norm.running_mean is None
        mean: Any = None if of_batch else norm.running_mean.clone()  # type: ignore[union-attr]
        var: Any = None if of_batch else norm.running_var.clone()  # type: ignore[union-attr]
        return lambda h, weight, bias: F.batch_norm(h, mean, var, weight, bias, of_batch, 0, norm.eps)
    return None


class MemoryEfficientBlend(torch.autograd.Function):
    """Computes x̃ from x, the norms and activations, and all weights in the order in which they are used.

    ``geometry`` holds padding and groups of the depth-wise convolution. ``factor`` is s, (N, 1, 1, 1); it gets no
    gradient, and None stands for 1.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        layers: tuple[NormAct, NormAct],
        geometry: dict[str, Any],
        factor: Tensor | None,
        *weights: Tensor | None,
    ) -> Tensor:
        autocast = autocast_settings(x.device.type)
        dtype = autocast['dtype'] if autocast['enabled'] else x.dtype
        ctx.layers, ctx.geometry, ctx.factor, ctx.dtype, ctx.autocast = layers, geometry, factor, dtype, autocast
        norm_acts = [lambda h, weight, bias, layer=layer: layer(h) for layer in layers]
        h1, h2, y = _run(ctx, x, weights, norm_acts)
        ctx.save_for_backward(x, h1, h2, *weights)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        with torch.autocast(grad.device.type, enabled=False):
            x_grad, *grads = (_differentiable_backward if is_observed(grad) else _backward)(ctx, grad)
        return x_grad, None, None, None, *grads


def _run(
    ctx: Any, x: Tensor, weights: Sequence[Any], norm_acts: Sequence[Callable[..., Tensor]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h_1, h_2 and x̃."""
    w1, b1, n1, c1, w2, b2, n2, c2, w3, b3 = weights
    dtype = ctx.dtype
    with torch.autocast(x.device.type, enabled=False):
        h1 = _op(dtype, w1, b1)(x.to(dtype))
        with torch.autocast(**ctx.autocast):
            a = norm_acts[0](h1, n1, c1).to(dtype)
        h2 = _op(dtype, w2, b2, **ctx.geometry)(a)
        with torch.autocast(**ctx.autocast):
            a = norm_acts[1](h2, n2, c2).to(dtype)
        prompt = _op(dtype, w3, b3)(a)
        if ctx.factor is not None:
            prompt = prompt * ctx.factor.to(prompt.dtype) if prompt.requires_grad else prompt.mul_(ctx.factor)
    return h1, h2, prompt.add_(x) if prompt.dtype == x.dtype else prompt + x


def _differentiable_backward(ctx: Any, grad: Tensor) -> list[Any]:
    """Return the gradients of x and each weight by rerunning the forward pass with torch's own operations."""
    x, _, _, *weights = ctx.saved_tensors
    create_graph = torch.is_grad_enabled()
    needed = [i for i, needs in enumerate(ctx.needs_input_grad[:1] + ctx.needs_input_grad[4:]) if needs]
    inputs = [x, *weights]
    with torch.enable_grad():
        for i in needed:  # separate tensors, because one input may depend on another
            inputs[i] = inputs[i].view_as(inputs[i])
        _, _, y = _run(ctx, inputs[0], inputs[1:], [layer.run_again for layer in ctx.layers])
    found = torch.autograd.grad(y, [inputs[i] for i in needed], grad, create_graph=create_graph)
    grads = dict(zip(needed, found))
    return [grads.get(i) for i in range(len(inputs))]


def _backward(ctx: Any, grad: Tensor) -> list[Any]:
    """Return the gradients of x and each weight, computed from the saved hidden maps."""
    x, h1, h2, w1, b1, n1, c1, w2, b2, n2, c2, w3, b3 = ctx.saved_tensors
    dtype = ctx.dtype
    of: dict[int, Tensor | None] = {}

    def through(i: int, op: ConvOp, grad: Tensor, h: Tensor, norm: tuple[Tensor | None, Tensor | None]) -> Tensor:
        """Propagate a gradient back through a convolution, activation and norm, to the hidden map h."""
        with torch.autocast(**ctx.autocast):
            a, backward = ctx.layers[i].grads(h, *norm)
        of[4 * i + 4], of[4 * i + 5] = op.weight_grad(grad, a.to(dtype))
        h_grad, of[4 * i + 2], of[4 * i + 3] = backward(op.input_grad(grad, h.shape[2:]))
        return h_grad

    prompt_grad = grad if ctx.factor is None else grad * ctx.factor.to(grad.dtype)
    h_grad = through(1, _op(dtype, w3, b3), prompt_grad.to(dtype), h2, (n2, c2))
    h_grad = through(0, _op(dtype, w2, b2, **ctx.geometry), h_grad, h1, (n1, c1))
    op = _op(dtype, w1, b1)
    of[0], of[1] = op.weight_grad(h_grad, x.to(dtype))
    x_grad = None
    if ctx.needs_input_grad[0]:
        x_grad = op.input_grad(h_grad, x.shape[2:]).to(x.dtype).add_(grad)
    weights = (w1, b1, n1, c1, w2, b2, n2, c2, w3, b3)
    return [x_grad, *(None if w is None else of[i].to(w.dtype) for i, w in enumerate(weights))]  # type: ignore[union-attr]


def _op(dtype: torch.dtype, weight: Any, bias: Any, **geometry: Any) -> ConvOp:
    return ConvOp(weight.to(dtype), None if bias is None else bias.to(dtype), **geometry)
