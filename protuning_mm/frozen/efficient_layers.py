"""Frozen convolutions, batch norms and ReLUs outside supported blocks, which save next to nothing for the gradients.

torch saves the input of a convolution and of a batch norm for the gradients of their weights, even if these are frozen.
Of a ReLU it saves the output, and of a ReLU6 the input; one bit per element is enough.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protuning_mm.frozen.block_structure import (
    BATCH_NORMS,
    NORM_ACTS,
    SAME_CONVS,
    UnsupportedError,
    check_conv,
    check_norm,
    check_runs_own,
    type_name,
)
from protuning_mm.frozen.conditions import compute_dtype, is_in_dense_graph, is_ordinary_call, is_watched
from protuning_mm.frozen.conv import ConvOp, check_unchanged, norm_scale, versions
from protuning_mm.frozen.efficient_forward import EfficientForward
from protuning_mm.frozen.folding import fold
from protuning_mm.frozen.higher_order import anchor, anchored, is_observed
from protuning_mm.frozen.relu_mask import ReluMask, apply_relu_mask, is_dense, pack_relu_mask


def _in_graph(x: Tensor, bias: Tensor | None) -> bool:
    trained = bias is not None and bias.requires_grad
    return torch.is_grad_enabled() and is_ordinary_call(x) and (x.requires_grad or trained)


class EfficientConv(EfficientForward):
    """Forward of a convolution with a frozen weight. The bias may be trained: its gradient does not need the input."""

    def check(self) -> None:
        check_conv(self.module, SAME_CONVS)
        check_runs_own(self.module, 'it', own=EfficientConv)
        if self.module.weight.requires_grad:
            raise UnsupportedError('weight is trained')

    def __call__(self, x: Tensor) -> Tensor:
        runs = _in_graph(x, self.module.bias) and self.unsupported_reason() is None
        dtype = compute_dtype(x, self.module) if runs else None
        if dtype is None:
            return self.plain(x)
        op = fold(self.module, None, dtype)
        if type_name(self.module) in SAME_CONVS:
            x = pad_same(x, op)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(dtype)
            return FrozenLayer.apply(x, self.module.bias, op, partial(_conv_input_grad, op), [op], anchor(x))


def pad_same(x: Tensor, conv: ConvOp) -> Tensor:
    """Pad maps so that the size of a convolution's output is theirs divided by the stride, rounded up.

    If the number of rows or columns to add is odd, one more is added at the end, as TensorFlow does.
    """
    pads = []
    for size, kernel, stride, dilation in zip(x.shape[2:], conv.weight.shape[2:], conv.stride, conv.dilation):
        added = max((math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        pads.append((added // 2, added - added // 2))
    (top, bottom), (left, right) = pads
    return F.pad(x, (left, right, top, bottom)) if top + bottom + left + right else x


def _conv_input_grad(op: ConvOp, grad: Tensor, size: torch.Size) -> Tensor:
    with torch.autocast(grad.device.type, enabled=False):
        return op.input_grad(grad, size)


class EfficientNorm(EfficientForward):
    """Forward of a batch norm in eval mode with a frozen γ. β may be trained: its gradient does not need the input."""

    types: tuple[str, ...] = BATCH_NORMS

    def check(self) -> None:
        norm = self.module
        check_norm(norm, self.types)
        check_runs_own(norm, 'it', own=EfficientNorm)
        if any(t is not None and t.requires_grad for t in (norm.weight, norm.running_mean, norm.running_var)):
            raise UnsupportedError('weight is trained')

    def __call__(self, x: Tensor) -> Tensor:
        if not _in_graph(x, self.module.bias) or self.unsupported_reason() is not None:
            return self.plain(x)
        return self._normalize(x)

    def _normalize(self, x: Tensor) -> Tensor:
        norm = self.module
        with torch.no_grad():
            scale = norm_scale(norm).view(-1, 1, 1)
        run = partial(_batch_norm, norm)
        return FrozenLayer.apply(x, norm.bias, run, partial(_norm_input_grad, scale), [], anchor(x))


class EfficientNormAct(EfficientNorm):
    """Forward of timm's batch norm that contains an activation."""

    types = NORM_ACTS

    def _normalize(self, x: Tensor) -> Tensor:
        norm, act = self.module, self.module.act
        relu = act.__dict__.get('forward')
        one_node = (
            isinstance(relu, EfficientReLU)
            and relu.unsupported_reason() is None
            and not is_watched(act, own=EfficientReLU)
            and type(norm.drop) is nn.Identity
            and not (norm.bias is not None and norm.bias.requires_grad)
            and is_dense(x)
        )
        if not one_node:
            y: Tensor = act(norm.drop(super()._normalize(x)))
            return y
        with torch.no_grad():
            scale = norm_scale(norm).view(-1, 1, 1)
        limited: Tensor = LimitedValues.apply(
            x, partial(_norm_and_relu, norm, relu), relu.limits, False, scale, anchor(x)
        )
        return limited


def _norm_and_relu(norm: Any, relu: 'EfficientReLU', x: Tensor) -> Tensor:
    y = _batch_norm(norm, x)
    lowest, highest = relu.limits
    return y.clamp_(lowest, highest) if highest < math.inf else y.relu_()


def _batch_norm(norm: Any, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)


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


class EfficientReLU(EfficientForward):
    """Forward of a ReLU, a ReLU6 or another Hardtanh, which saves one bit per element."""

    def check(self) -> None:
        if type(self.module) not in RELUS:
            raise UnsupportedError(f'{type_name(self.module)} is not a supported activation')
        check_runs_own(self.module, 'it', own=EfficientReLU)

    def __call__(self, x: Tensor) -> Tensor:
        inplace = getattr(self.module, 'inplace', False)
        if not is_in_dense_graph(x, inplace) or self.unsupported_reason() is not None:
            return self.plain(x)
        y: Tensor = LimitedValues.apply(x, self.plain, self.limits, inplace, None, anchor(x))
        return y

    @property
    def limits(self) -> tuple[float, float]:
        """The range of the results."""
        return getattr(self.module, 'min_val', 0.0), getattr(self.module, 'max_val', math.inf)


class LimitedValues(torch.autograd.Function):
    """Runs an activation that limits values to a range, maybe after a norm with the given scale.

    It saves one bit per element: whether the activation changed it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        run: Callable[[Tensor], Tensor],
        limits: tuple[float, float],
        inplace: bool,
        scale: Tensor | None,
        anchor: tuple[Tensor],
    ) -> Tensor:
        y = run(x)
        if inplace:
            ctx.mark_dirty(x)
        mask = pack_relu_mask(y, *limits)
        ctx.save_for_backward(mask.bits)
        ctx.layout, ctx.scale, ctx.anchor = mask[1:], scale, anchor
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x_grad = apply_relu_mask(grad, ReluMask(*ctx.saved_tensors, *ctx.layout))
        if ctx.scale is not None and (is_observed(grad) or x_grad.dtype != ctx.scale.dtype):
            x_grad = _norm_input_grad(ctx.scale, x_grad, x_grad.shape)
        elif ctx.scale is not None:
            x_grad.mul_(ctx.scale)
        return anchored(x_grad, ctx.anchor), None, None, None, None, None


RELUS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
# type -> the forward of its layers
LAYERS: dict[str, type[EfficientForward]] = {
    **dict.fromkeys(BATCH_NORMS, EfficientNorm),
    **dict.fromkeys(NORM_ACTS, EfficientNormAct),
    **dict.fromkeys(('torch.nn.modules.conv.Conv2d', *SAME_CONVS), EfficientConv),
    **{f'{act.__module__}.{act.__qualname__}': EfficientReLU for act in RELUS},
}
