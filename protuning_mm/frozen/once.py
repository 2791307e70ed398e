"""First derivatives only: a graph that keeps little has no second ones, and says so."""

from typing import Any

import torch
from torch import Tensor


def once(result: Tensor, grad: Tensor) -> Tensor:
    """Let a first derivative through, and refuse when it is differentiated again.

    Args:
        result (Tensor): What a backward pass computed.
        grad (Tensor): What it was given.
    """
    if torch.is_grad_enabled() and grad.requires_grad:
        return _Once.apply(result, grad)
    return result


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, result: Tensor, grad: Tensor) -> Tensor:
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        raise RuntimeError(
            'efficient frozen execution has no second derivative: it keeps too little for that. For double backward '
            '(create_graph=True) take the plain path: efficient_frozen=False in the config of the backbone, or '
            'protuning_mm.frozen.release(model)'
        )
