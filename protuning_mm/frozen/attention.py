"""Swin's window attention, saving queries, keys, values, position bias and mask for the backward pass.

torch also saves the scaled queries and the attention weights. Here the backward pass recomputes them: two small matrix
products and some elementwise operations, a few percent of the block's cost.
"""

from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.frozen.block_structure import UnsupportedError, check_own, check_untouched, type_name
from protuning_mm.frozen.conditions import autocast_settings, is_ordinary_call
from protuning_mm.frozen.efficient_forward import EfficientForward

WINDOW_ATTENTIONS = (
    'mmdet.models.backbones.swin.WindowMSA',
    'mmseg.models.backbones.swin.WindowMSA',
    'mmpretrain.models.utils.attention.WindowMSA',
)


class EfficientWindowAttention(EfficientForward):
    """Forward of a window attention whose position bias is frozen; its projections may be frozen or trained."""

    def check(self) -> None:
        module = self.module
        if type_name(module) not in WINDOW_ATTENTIONS:
            raise UnsupportedError(f'{type_name(module)} is not a supported window attention')
        check_own(module, 'it', own=EfficientWindowAttention)
        for name in ('softmax', 'attn_drop'):
            check_untouched(getattr(module, name), name)
        if type(module.softmax) is not nn.Softmax or module.softmax.dim != -1:
            raise UnsupportedError(f'softmax is {module.softmax}, not Softmax(dim=-1)')
        if module.attn_drop.training and getattr(module.attn_drop, 'p', 1):
            raise UnsupportedError('attn_drop is active')

    def __call__(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if not (torch.is_grad_enabled() and is_ordinary_call(x, dims=3)) or self.unsupported_reason() is not None:
            return self.plain(x, mask)
        module = self.module
        area = module.window_size[0] * module.window_size[1]
        table = module.relative_position_bias_table[module.relative_position_index.view(-1)]
        bias = table.view(area, area, -1).permute(2, 0, 1).contiguous()  # (heads, area, area)
        y = WindowAttention.apply(module.qkv(x), bias, mask, module.num_heads, module.scale)
        return module.proj_drop(module.proj(y))


class WindowAttention(torch.autograd.Function):
    """Computes :func:`_attend`; saves only its inputs and returns a gradient for ``qkv`` only."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, mask: Tensor | None, heads: int, scale: float) -> Tensor:
        ctx.save_for_backward(qkv, bias, mask)
        ctx.heads, ctx.scale = heads, scale
        ctx.autocast = autocast_settings(qkv.device.type)
        y = _attend(qkv, bias, mask, heads, scale)
        # With one head the result is a view, and autograd forbids in-place changes to a view returned by a Function.
        return y.clone() if y._is_view() else y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        qkv, bias, mask = ctx.saved_tensors
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad(), torch.autocast(**ctx.autocast):
            qkv = qkv.view_as(qkv)  # the recomputed graph ends here
            y = _attend(qkv, bias, mask, ctx.heads, ctx.scale)
        (qkv_grad,) = torch.autograd.grad(y, qkv, grad, create_graph=create_graph)
        return qkv_grad, None, None, None, None


def _attend(qkv: Tensor, bias: Tensor, mask: Tensor | None, heads: int, scale: float) -> Tensor:
    """Compute the attention within each window, (N windows, L, 3 C) to (N windows, L, C)."""
    windows, length, _ = qkv.shape
    q, k, v = qkv.reshape(windows, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind()
    weights = (q * scale) @ k.transpose(-2, -1) + bias
    if mask is not None:  # (windows of an image, L, L)
        per_image = weights.view(-1, len(mask), heads, length, length)
        weights = (per_image + mask.unsqueeze(1)).view(windows, heads, length, length)
    return (weights.softmax(-1) @ v).transpose(1, 2).reshape(windows, length, -1)
