"""A frozen convolution and the batch norm after it, folded into one convolution.

With γ, β, μ, σ² the norm's affine parameters and statistics, and s = γ / √(σ² + ε): W' = s W and b' = s (b − μ) + β.
The modules keep their own tensors; folded ones are a cache beside them, and are made anew whenever those change.
"""

from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.frozen.bits import is_dense
from protuning_mm.frozen.conv import ConvOp, geometry

# On a CPU this many elements of each weight are compared at each use; biases and statistics whole.
_SAMPLE = 16


class FoldedConv:
    """Conv2d and, after it, a batch norm in eval mode, as one :class:`ConvOp`.

    The cache is used as long as every tensor is the same (storage, version, type) and, on a CPU, a sample of its values
    is: what is written through ``.data``, as EMA does, raises no version. On other devices a comparison would wait for
    the device; there :func:`~protuning_mm.frozen.refold` has to be told, and ``TunedBackbone`` tells it whenever the
    model turns from training to evaluation or back, and is moved or cast.
    """

    def __init__(self) -> None:
        self._stamp: tuple[Any, ...] | None = None
        # views of what is compared; they also keep a storage from being freed and its address from being used again
        self._views: list[Tensor] = []
        self._values = torch.empty(0)
        self._folded: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    def __call__(self, conv: nn.Conv2d, norm: Any, dtype: torch.dtype) -> ConvOp:
        """Fold, where that was not done already.

        Args:
            conv (nn.Conv2d): The convolution.
            norm (nn.Module, optional): The batch norm, in eval mode.
            dtype (torch.dtype): Of the result: autocast's cast is made once, too.
        """
        parts = [conv.weight, conv.bias]
        if norm is not None:
            parts += [norm.running_mean, norm.running_var, norm.weight, norm.bias]
        tensors = [t for t in parts if t is not None]
        stamp = (getattr(norm, 'eps', None), *(_identity(t) for t in tensors))
        if stamp != self._stamp or not self._has_same_values():
            self._stamp, self._folded = stamp, {}
            self._views = [_sample(t) for t in tensors]
            self._values = torch.cat(self._views)
        if dtype not in self._folded:
            with torch.no_grad(), torch.inference_mode(False):
                self._folded[dtype] = _fold(conv, norm, dtype)
        geo = geometry(conv)
        assert geo is not None
        return ConvOp(*self._folded[dtype], **geo)

    def _has_same_values(self) -> bool:
        return self._values.device.type != 'cpu' or torch.equal(torch.cat(self._views), self._values)


def _fold(conv: nn.Conv2d, norm: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    exact = torch.promote_types(conv.weight.dtype, torch.float32)
    weight = conv.weight.to(exact)
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.to(exact)
    if norm is not None:
        scale = (norm.running_var.to(exact) + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.to(exact)
        bias = (bias - norm.running_mean.to(exact)) * scale
        if norm.bias is not None:
            bias = bias + norm.bias.to(exact)
        weight = weight * scale.view(-1, 1, 1, 1)
    # without a norm or a cast these are the convolution's own: no copy, and a change is a change of both
    return weight.detach().to(dtype), bias.detach().to(dtype)


def _identity(t: Tensor) -> tuple[Any, ...]:
    version = -1 if t.is_inference() else t._version
    return id(t), t.data_ptr(), version, t.dtype, t.device, t.shape, t.stride()


def _sample(t: Tensor) -> Tensor:
    """A view of some of a weight's elements, or of all of a vector's."""
    # an odd step: it does not fall on the same place of every kernel
    step = 1 if t.dim() == 1 else max(1, t.numel() // _SAMPLE) | 1
    flat = t.detach().as_strided((t.numel(),), (1,)) if is_dense(t) else t.detach().flatten()
    return flat[::step]
