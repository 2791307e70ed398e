"""A frozen convolution and the batch norm after it, folded into one convolution.

With the norm's affine parameters γ, β, its statistics μ, σ², and s = γ / √(σ² + ε): W' = s W and b' = s (b − μ) + β.
W' is computed at each use, in the forward and in the backward pass, and then discarded. So the frozen weights are in
memory once, and what changes them, in whatever way, takes effect at the next call.
"""

from typing import Any

import torch
from torch import nn

from protuning_mm.frozen.conv import ConvOp, norm_scale, unfolded


def fold(conv: nn.Conv2d, norm: Any, dtype: torch.dtype) -> ConvOp:
    """Fold a batch norm in eval mode into the Conv2d before it.

    If the weights are stored in half precision, the norm is not folded: rounding s W loses more accuracy than the
    rounding between convolution and norm, which folding avoids. Under autocast, float32 weights are folded in float32
    and then rounded.

    Args:
        conv (nn.Conv2d): The convolution.
        norm (nn.Module, optional): The batch norm.
        dtype (torch.dtype): Dtype of the result.
    """
    op = unfolded(conv)
    if norm is None:
        return op._replace(bias=None if op.bias is None else op.bias.to(dtype), cast=dtype)
    if dtype.itemsize < 4 and conv.weight.dtype == dtype:
        return unfolded(conv, norm)
    with torch.no_grad():
        scale = norm_scale(norm).to(torch.promote_types(conv.weight.dtype, torch.float32))
        bias = ((0 if op.bias is None else op.bias) - norm.running_mean.to(scale.dtype)) * scale
        if norm.bias is not None:
            bias = bias + norm.bias.to(scale.dtype)
    return op._replace(bias=bias.to(dtype), scale=scale.view(-1, 1, 1, 1), cast=dtype)
