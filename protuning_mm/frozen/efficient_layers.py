"""Frozen convolutions and batch norms outside supported blocks, which save no activations for the backward pass.

torch saves the input of a convolution and of a batch norm for the gradients of their weights, even if these are frozen.
"""

from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.frozen.block_structure import BATCH_NORMS, UnsupportedError, check_runs_own, type_name
from protuning_mm.frozen.conditions import compute_dtype, is_ordinary_call
from protuning_mm.frozen.conv import ConvOp, check_unchanged, geometry, norm_scale, versions
from protuning_mm.frozen.efficient_forward import EfficientForward
from protuning_mm.frozen.higher_order import anchor, anchored


def wrap_layer(layer: nn.Module) -> None:
    """Replace the forward of a convolution or batch norm by one that saves nothing while the layer is frozen."""
    if 'forward' in layer.__dict__:
        return
    if type(layer) is nn.Conv2d:
        EfficientConv(layer)
    elif type_name(layer) in BATCH_NORMS:
        EfficientNorm(layer)


def _in_graph(x: Tensor, bias: Tensor | None) -> bool:
    trained = bias is not None and bias.requires_grad
    return torch.is_grad_enabled() and is_ordinary_call(x) and (x.requires_grad or trained)


class EfficientConv(EfficientForward):
    """Forward of a convolution with a frozen weight. The bias may be trained: its gradient does not need the input."""

    def check(self) -> None:
        if type(self.module) is not nn.Conv2d:
            raise UnsupportedError(f'{type_name(self.module)} is not an exact Conv2d')
        check_runs_own(self.module, 'it', own=EfficientConv)
        if self.module.weight.requires_grad:
            raise UnsupportedError('weight is trained')
        if geometry(self.module) is None:
            raise UnsupportedError(f'padding={self.module.padding!r}, padding_mode={self.module.padding_mode!r}')

    def __call__(self, x: Tensor) -> Tensor:
        if not _in_graph(x, self.module.bias) or self.unsupported_reason() is not None:
            return self.plain(x)
        dtype = compute_dtype(x, self.module)
        if dtype is None:
            return self.plain(x)
        op = self._folds['cast'](self.module, None, dtype)
        if self.module.bias is None:
            op = op._replace(bias=None)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(dtype)
            return FrozenConv.apply(x, self.module.bias, op, anchor(x))


class FrozenConv(torch.autograd.Function):
    """A convolution with gradients for x and the bias only; ``op`` has weight and bias in the dtype of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, op: ConvOp, anchor: tuple[Tensor]) -> Tensor:
        ctx.op, ctx.size, ctx.bias_dtype = op, x.shape[2:], None if bias is None else bias.dtype
        ctx.versions, ctx.anchor = versions([op]), anchor
        return op(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x_grad = bias_grad = None
        check_unchanged([ctx.op], ctx.versions)
        with torch.autocast(grad.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                x_grad = anchored(ctx.op.input_grad(grad, ctx.size), ctx.anchor)
            if ctx.needs_input_grad[1]:
                bias_grad = grad.sum((0, 2, 3), dtype=ctx.bias_dtype)
        return x_grad, bias_grad, None, None


class EfficientNorm(EfficientForward):
    """Forward of a batch norm in eval mode with a frozen γ. β may be trained: its gradient does not need the input."""

    def check(self) -> None:
        norm = self.module
        if type_name(norm) not in BATCH_NORMS:
            raise UnsupportedError(f'{type_name(norm)} is not an exact batch norm')
        check_runs_own(norm, 'it', own=EfficientNorm)
        if norm.training:
            raise UnsupportedError('a batch norm is in training mode')
        if norm.running_mean is None or norm.running_var is None:
            raise UnsupportedError('a batch norm has no running statistics')
        if any(t is not None and t.requires_grad for t in (norm.weight, norm.running_mean, norm.running_var)):
            raise UnsupportedError('weight is trained')

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.module
        if not _in_graph(x, norm.bias) or self.unsupported_reason() is not None:
            return self.plain(x)
        with torch.no_grad():
            scale = norm_scale(norm).view(-1, 1, 1)
        return FrozenNorm.apply(x, norm.bias, scale, self.plain, anchor(x))


class FrozenNorm(torch.autograd.Function):
    """A batch norm with fixed statistics and gradients for x and β only; ``run`` is the class's own forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, scale: Tensor, run: Any, anchor: tuple[Tensor]) -> Tensor:
        ctx.scale, ctx.bias_dtype, ctx.anchor = scale, None if bias is None else bias.dtype, anchor
        y: Tensor = run(x)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x_grad = bias_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = anchored((grad * ctx.scale).to(grad.dtype), ctx.anchor)
        if ctx.needs_input_grad[1]:
            bias_grad = grad.sum((0, 2, 3), dtype=ctx.bias_dtype)
        return x_grad, bias_grad, None, None, None
