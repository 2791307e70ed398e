"""What a frozen module saves for the backward pass, in 8 bits instead of 32 or 16.

Transformers and networks with smooth activations need their feature maps for the gradient of the input, even where all
weights are frozen: the inputs of layer norms, GELU and SiLU, and the queries, keys and values of attention. Each group
of 64 values that follow one another in memory is stored as integers from -127 to 127 and one scale, as in ActNN (arXiv
2104.14129). Outputs are exact; gradients have an error of a few tenths of a per cent.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from protuning_mm.frozen.block_structure import UnsupportedError, check_runs_own, type_name
from protuning_mm.frozen.conditions import is_in_dense_graph, is_ordinary_moment
from protuning_mm.frozen.efficient_forward import EfficientForward
from protuning_mm.frozen.higher_order import is_observed

GROUP = 64  # values that share a scale
_TIMM_ACTS = 'timm.layers.activations'
_FEWEST = 2**12  # smaller tensors are saved as they are
_CHUNK = 2**18  # values that are rounded at a time, so that temporary tensors are small
# the largest integer is 127: a scale of bfloat16 is off by up to 1/512, so that 126.5 scales are at most 126.75
_LARGEST = 126.5


class QuantizedTensor(NamedTuple):
    """A tensor in 8 bits.

    Args:
        values (Tensor): (groups, values of a group), int8.
        scales (Tensor): (groups, 1), bfloat16.
        shape (torch.Size): Shape of the tensor, with the channels last if ``channels_last``.
        dtype (torch.dtype): Dtype of the tensor.
        channels_last (bool): Whether the tensor is (N, C, H, W) with channels last in memory.
    """

    values: Tensor
    scales: Tensor
    shape: torch.Size
    dtype: torch.dtype
    channels_last: bool


def quantize(tensor: Tensor, group: int = GROUP) -> QuantizedTensor:
    """Round a tensor to 8 bits, with one scale for each group of values; the group must divide their number."""
    channels_last = tensor.dim() == 4 and not tensor.is_contiguous() and tensor.permute(0, 2, 3, 1).is_contiguous()
    ordered = tensor.permute(0, 2, 3, 1) if channels_last else tensor
    groups = ordered.reshape(-1, group)
    values = torch.empty_like(groups, dtype=torch.int8)
    scales = groups.new_empty(len(groups), 1, dtype=torch.bfloat16)
    for part, ints, scale in zip(*(each.split(_CHUNK // group) for each in (groups, values, scales))):
        largest = torch.maximum(part.amax(1, keepdim=True), -part.amin(1, keepdim=True))
        scale.copy_((largest.float() / _LARGEST).clamp_(min=1e-30))
        ints.copy_((part * scale.float().reciprocal_()).round_())
    return QuantizedTensor(values, scales, ordered.shape, tensor.dtype, channels_last)


def dequantize(quantized: QuantizedTensor) -> Tensor:
    """Return a tensor from its 8 bits."""
    values, scales, shape, dtype, channels_last = quantized
    tensor = values.to(torch.float32).mul_(scales).view(shape).to(dtype)
    return tensor.permute(0, 3, 1, 2) if channels_last else tensor


class _Saved(NamedTuple):
    """A tensor that is saved as it is, with its version, which counts changes in place."""

    tensor: Tensor
    version: int


class _Packer:
    """Quantizes what autograd saves. A tensor that several operations save is quantized once.

    It serves one forward pass of one module: what it has quantized stays in memory as long as it exists.
    """

    def __init__(self) -> None:
        self._known: dict[Any, tuple[StorageWeakRef, QuantizedTensor]] = {}

    def __call__(self, tensor: Tensor) -> QuantizedTensor | _Saved:
        group = math.gcd(tensor.numel(), GROUP)
        if group < GROUP // 4 or tensor.numel() < _FEWEST or not _is_activation(tensor):
            return _Saved(tensor.detach(), tensor._version)
        storage = StorageWeakRef(tensor.untyped_storage())  # as long as it exists, no other storage gets its address
        layout = (tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype, tensor._version)
        key = (storage.cdata, *layout)
        if key not in self._known:
            with torch.no_grad():
                self._known[key] = (storage, quantize(tensor, group))
        return self._known[key][1]


def _unpack(saved: QuantizedTensor | _Saved) -> Tensor:
    if isinstance(saved, QuantizedTensor):
        return dequantize(saved)
    if saved.tensor._version != saved.version:
        raise RuntimeError(
            'one of the variables needed for gradient computation has been modified by an inplace operation: a tensor '
            f'of shape {tuple(saved.tensor.shape)} was changed between the forward and the backward pass'
        )
    return saved.tensor


def _is_activation(tensor: Tensor) -> bool:
    """Return whether a saved tensor depends on trained weights, and is not itself such a weight or its cast copy."""
    node = (tensor if tensor._base is None else tensor._base).grad_fn
    if not tensor.requires_grad or node is None or not tensor.is_floating_point() or tensor.layout != torch.strided:
        return False
    sources = [getattr(source, 'variable', None) for source, _ in node.next_functions]
    return not (len(sources) == 1 and isinstance(sources[0], nn.Parameter))


class Int8Forward(EfficientForward):
    """Forward of a frozen module that runs as always and saves 8 bits of each value for the backward pass."""

    def check(self) -> None:
        if any(param.requires_grad and param.dim() > 1 for param in self.module.parameters()):
            raise UnsupportedError('weight is trained')

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled() or not is_ordinary_moment() or self.unsupported_reason() is not None:
            return self.plain(*args, **kwargs)
        with torch.autograd.graph.saved_tensors_hooks(_Packer(), _unpack):
            return self.plain(*args, **kwargs)


class Derivative(NamedTuple):
    """An activation and its derivative, which lies between 0.5 - span and 0.5 + span.

    Args:
        times_derivative (Callable): Maps (gradient, input) to the gradient times the derivative.
        span (float): Half of the distance between the derivative's extremes, rounded up.
    """

    times_derivative: Callable[[Tensor, Tensor], Tensor]
    span: float


def _derivative(module: nn.Module) -> Derivative | None:
    """Return the derivative of a smooth activation; None if it is not known."""
    if type(module) is nn.GELU:
        return Derivative(partial(torch.ops.aten.gelu_backward, approximate=module.approximate), 0.63)
    name = type_name(module)
    if name == f'{_TIMM_ACTS}.GELU':
        return Derivative(torch.ops.aten.gelu_backward, 0.63)
    if name == f'{_TIMM_ACTS}.GELUTanh':
        return Derivative(partial(torch.ops.aten.gelu_backward, approximate='tanh'), 0.63)
    if type(module) is nn.SiLU or name == f'{_TIMM_ACTS}.Swish':
        return Derivative(torch.ops.aten.silu_backward, 0.6)
    if type(module) is nn.Hardswish:
        return Derivative(torch.ops.aten.hardswish_backward, 1.0)
    return None


class Int8Activation(EfficientForward):
    """Forward of a smooth activation that saves its derivative in 8 bits.

    All values share one scale, because the derivatives of GELU, SiLU and Hardswish lie close to the range from 0 to 1.
    """

    def check(self) -> Derivative:
        found = _derivative(self.module)
        if found is None:
            raise UnsupportedError(f'{type_name(self.module)} is not a supported activation')
        check_runs_own(self.module, 'it', own=Int8Activation)
        return found

    def __call__(self, x: Tensor) -> Tensor:
        inplace = getattr(self.module, 'inplace', False)
        if not is_in_dense_graph(x, inplace) or self.unsupported_reason() is not None:
            return self.plain(x)
        y: Tensor = SmoothActivation.apply(x, self.plain, self.check(), inplace)
        return y


class SmoothActivation(torch.autograd.Function):
    """Runs an activation and saves its derivative in 8 bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, run: Callable[[Tensor], Tensor], derivative: Derivative, inplace: bool) -> Tensor:
        flat = x.as_strided((x.numel(),), (1,))
        ints = torch.empty_like(flat, dtype=torch.int8)
        ones = flat.new_ones(min(len(flat), _CHUNK))
        for part, out in zip(flat.split(_CHUNK), ints.split(_CHUNK)):
            slopes = derivative.times_derivative(ones[: len(part)], part).float()
            out.copy_(slopes.sub_(0.5).mul_(127 / derivative.span).round_())
        y = run(x)
        if inplace:
            ctx.mark_dirty(x)
        ctx.save_for_backward(ints)
        ctx.span, ctx.size, ctx.stride = derivative.span, x.shape, x.stride()
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("efficient_frozen='int8' has no second derivatives: use efficient_frozen='exact'")
        (ints,) = ctx.saved_tensors
        if is_observed(grad):  # a batch of gradients
            slopes = ints.as_strided(ctx.size, ctx.stride).to(grad.dtype).mul_(ctx.span / 127).add_(0.5)
            return grad * slopes, None, None, None
        x_grad = torch.empty_strided(ctx.size, ctx.stride, dtype=grad.dtype, device=grad.device).copy_(grad)
        for part, saved in zip(x_grad.as_strided((x_grad.numel(),), (1,)).split(_CHUNK), ints.split(_CHUNK)):
            part.mul_(saved.float().mul_(ctx.span / 127).add_(0.5))
        return x_grad, None, None, None


def save_in_int8(module: nn.Module) -> None:
    """Save 8 bits of each value that a frozen module needs for the backward pass, where it is not saved in fewer."""
    for part in module.modules():
        if _derivative(part) is not None and 'forward' not in part.__dict__:
            Int8Activation(part)
    if 'forward' not in module.__dict__:
        Int8Forward(module)
