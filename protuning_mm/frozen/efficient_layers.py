"""Frozen convolutions and batch norms outside supported blocks, which save no activations for the backward pass.

torch saves the input of a convolution and of a batch norm for the gradients of their weights, even if these are frozen.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from protuning_mm.frozen.block_structure import BATCH_NORMS, UnsupportedError, check_conv, check_norm, check_runs_own
from protuning_mm.frozen.conditions import compute_dtype, is_ordinary_call
from protuning_mm.frozen.conv import ConvOp, check_unchanged, norm_scale, versions
from protuning_mm.frozen.efficient_forward import EfficientForward
from protuning_mm.frozen.higher_order import anchor, anchored


def _in_graph(x: Tensor, bias: Tensor | None) -> bool:
    trained = bias is not None and bias.requires_grad
    return torch.is_grad_enabled() and is_ordinary_call(x) and (x.requires_grad or trained)


class EfficientConv(EfficientForward):
    """Forward of a convolution with a frozen weight. The bias may be trained: its gradient does not need the input."""

    def check(self) -> None:
        check_conv(self.module)
        check_runs_own(self.module, 'it', own=EfficientConv)
        if self.module.weight.requires_grad:
            raise UnsupportedError('weight is trained')

    def __call__(self, x: Tensor) -> Tensor:
        runs = _in_graph(x, self.module.bias) and self.unsupported_reason() is None
        dtype = compute_dtype(x, self.module) if runs else None
        if dtype is None:
            return self.plain(x)
        op = self._folds['cast'](self.module, None, dtype)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(dtype)
            return FrozenLayer.apply(x, self.module.bias, op, partial(_conv_input_grad, op), [op], anchor(x))


def _conv_input_grad(op: ConvOp, grad: Tensor, size: torch.Size) -> Tensor:
    with torch.autocast(grad.device.type, enabled=False):
        return op.input_grad(grad, size)


class EfficientNorm(EfficientForward):
    """Forward of a batch norm in eval mode with a frozen γ. β may be trained: its gradient does not need the input."""

    def check(self) -> None:
        norm = self.module
        check_norm(norm)
        check_runs_own(norm, 'it', own=EfficientNorm)
        if any(t is not None and t.requires_grad for t in (norm.weight, norm.running_mean, norm.running_var)):
            raise UnsupportedError('weight is trained')

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.module
        if not _in_graph(x, norm.bias) or self.unsupported_reason() is not None:
            return self.plain(x)
        with torch.no_grad():
            scale = norm_scale(norm).view(-1, 1, 1)
        return FrozenLayer.apply(x, norm.bias, self.plain, partial(_norm_input_grad, scale), [], anchor(x))


def _norm_input_grad(scale: Tensor, grad: Tensor, size: torch.Size) -> Tensor:
    return (grad * scale).to(grad.dtype)


class FrozenLayer(torch.autograd.Function):
    """A layer with gradients for x and the bias only.

    ``run`` computes the output from x. ``input_grad`` computes the gradient of x from that of the output and the size
    of x, with the weights of ``convs``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor | None,
        run: Callable[[Tensor], Tensor],
        input_grad: Callable[[Tensor, torch.Size], Tensor],
        convs: list[ConvOp],
        anchor: tuple[Tensor],
    ) -> Tensor:
        ctx.input_grad, ctx.convs, ctx.versions, ctx.anchor = input_grad, convs, versions(convs), anchor
        ctx.size, ctx.bias_dtype = x.shape[2:], None if bias is None else bias.dtype
        return run(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x_grad = bias_grad = None
        check_unchanged(ctx.convs, ctx.versions)
        if ctx.needs_input_grad[0]:
            x_grad = anchored(ctx.input_grad(grad, ctx.size), ctx.anchor)
        if ctx.needs_input_grad[1]:
            bias_grad = grad.sum((0, 2, 3), dtype=ctx.bias_dtype)
        return x_grad, bias_grad, None, None, None, None


# type -> the forward of its layers
LAYERS: dict[str, type[EfficientForward]] = {
    **dict.fromkeys(BATCH_NORMS, EfficientNorm),
    'torch.nn.modules.conv.Conv2d': EfficientConv,
}
