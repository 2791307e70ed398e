"""Conditions under which a custom autograd node may replace torch's own graph."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils._device import DeviceContext

from protuning_mm.frozen.block_structure import UnsupportedError, check_runs_own, check_unhooked
from protuning_mm.frozen.higher_order import is_transformed
from protuning_mm.frozen.relu_mask import INTEGERS, is_dense


def is_ordinary_call(x: Any, dims: int = 4) -> bool:
    """Return whether ``x`` is an ordinary batch in an ordinary call: not traced, compiled, transformed or hooked.

    Args:
        x (Any): The input of a layer.
        dims (int): Expected number of dimensions. Defaults to 4, feature maps (N, C, H, W).
    """
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.dim() == dims
        and x.layout == torch.strided
        and x.device.type in ('cpu', 'cuda')
        and is_ordinary_moment()
    )


def is_ordinary_moment() -> bool:
    """Return whether nothing is traced, compiled, transformed or hooked globally."""
    return (
        not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and not is_transformed()
        and not _has_modes()
        and not torch_module._global_forward_hooks
        and not torch_module._global_forward_pre_hooks
        and not torch_module._global_backward_hooks
        and not torch_module._global_backward_pre_hooks
    )


def is_in_dense_graph(x: Any, inplace: bool) -> bool:
    """Return whether an activation may run as a node of its own that reads memory in its own order.

    Args:
        x (Any): The input of the activation.
        inplace (bool): Whether the activation overwrites it. torch raises an error for a leaf, and rewrites the graph
            of a view.
    """
    return (
        torch.is_grad_enabled()
        and type(x) is Tensor
        and x.requires_grad
        and is_ordinary_call(x, x.dim())
        and x.element_size() in INTEGERS
        and is_dense(x)
        and not (inplace and (x.is_leaf or x._is_view()))
    )


def _has_modes() -> bool:
    """Return whether a torch mode intercepts operations; the mode that sets a default device does not count."""
    if torch._C._len_torch_dispatch_stack():
        return True
    modes = (torch._C._get_function_stack_at(i) for i in range(torch._C._len_torch_function_stack()))
    return any(type(mode) is not DeviceContext for mode in modes)


def autocast_settings(kind: str) -> dict[str, Any]:
    """Return the arguments of ``torch.autocast`` that restore its current state on a type of device."""
    return dict(device_type=kind, dtype=torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind))


def compute_dtype(x: Tensor, conv: nn.Conv2d, norm: Any = None) -> torch.dtype | None:
    """Return the dtype in which torch would run a convolution and the batch norm after it.

    Returns:
        torch.dtype: None if torch would raise an error or a tensor is not ordinary; the caller then leaves the call to
            torch.
    """
    kind, weight = x.device.type, conv.weight
    vectors = [] if conv.bias is None else [conv.bias]
    if norm is not None:
        affine = [t for t in (norm.running_mean, norm.running_var, norm.weight, norm.bias) if t is not None]
        vectors += affine
    if not (all(_is_ordinary(t, x.device) for t in (weight, *vectors)) and weight.dim() == 4):
        return None
    if any(t.shape != weight.shape[:1] for t in vectors) or (conv.bias is not None and conv.bias.dtype != weight.dtype):
        return None
    if not torch.is_autocast_enabled(kind):
        dtype = x.dtype if x.dtype == weight.dtype else None
    else:
        lower = (torch.float32, torch.float16, torch.bfloat16)
        dtype = torch.get_autocast_dtype(kind) if x.dtype in lower and weight.dtype in lower else None
    if dtype is not None and norm is not None:
        kinds = {t.dtype for t in affine}
        if kinds != {dtype} and (kinds != {torch.float32} or dtype.itemsize > 2):
            return None
    return dtype


def _is_ordinary(t: Tensor, device: torch.device) -> bool:
    """Return whether a weight is a strided floating-point tensor that may be used in an autograd graph."""
    return (
        type(t) in (Tensor, nn.Parameter)
        and t.layout == torch.strided
        and t.device == device
        and t.is_floating_point()
        and t.element_size() > 1
        and not (t.is_inference() and torch.is_grad_enabled() and not torch.is_inference_mode_enabled())
    )


def is_watched(module: nn.Module, own: type | tuple[type, ...] = ()) -> bool:
    """Return whether a module or one of its children has hooks or replaced methods, except forwards of some types."""
    try:
        for part in module.modules():
            check_unhooked(part, 'it')
            check_runs_own(part, 'it', own)
    except UnsupportedError:
        return True
    return False
