"""When a graph of our own may take the place of torch's."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from protuning_mm.frozen.observed import is_transformed


def runs_plainly(x: Any, dims: int = 4) -> bool:
    """Whether ``x`` is an ordinary batch (of maps: 4 dims), run for its values: not traced, compiled or transformed."""
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.dim() == dims
        and x.layout == torch.strided
        and x.device.type in ('cpu', 'cuda')
        and not torch.compiler.is_compiling()
        and not torch._C._get_tracing_state()
        and not is_transformed()
        and not any(
            (
                torch_module._global_forward_hooks,
                torch_module._global_forward_pre_hooks,
                torch_module._global_backward_hooks,
                torch_module._global_backward_pre_hooks,
            )
        )
    )


def compute_dtype(x: Tensor, conv: nn.Conv2d) -> torch.dtype | None:
    """The type that torch would run the convolution in; None where it would refuse, which is left to it."""
    kind, weight = x.device.type, conv.weight
    if weight.device != x.device or not weight.is_floating_point() or weight.element_size() < 2:
        return None
    if torch.is_autocast_enabled(kind):
        lower = (torch.float32, torch.float16, torch.bfloat16)
        return torch.get_autocast_dtype(kind) if x.dtype in lower and weight.dtype in lower else None
    return x.dtype if x.dtype == weight.dtype else None


def is_watched(module: nn.Module) -> bool:
    """Whether anybody looks into a module or its children: hooks, or another forward."""
    return any(
        'forward' in part.__dict__
        or part._forward_hooks
        or part._forward_pre_hooks
        or part._backward_hooks
        or part._backward_pre_hooks
        for part in module.modules()
    )
