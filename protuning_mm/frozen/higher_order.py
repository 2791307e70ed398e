"""Support for higher-order and batched gradients, for which a backward pass must use differentiable operations."""

import torch
from torch import Tensor
from torch.autograd import forward_ad


def is_observed(grad: Tensor) -> bool:
    """Return whether a backward pass is itself differentiated, or processes a batch of gradients.

    It is differentiated under ``create_graph=True`` (the only case in which gradients are enabled during a backward
    pass), in ``torch.func`` and in forward-mode differentiation. Writing to memory directly, as
    :mod:`~protuning_mm.frozen.relu_mask` and :mod:`~protuning_mm.frozen.conv` do, would then lose derivatives.

    Args:
        grad (Tensor): The gradient that the backward pass received, or a tensor computed from it; batched under
            ``is_grads_batched=True``.
    """
    return torch.is_grad_enabled() or is_transformed() or torch._C._functorch.is_legacy_batchedtensor(grad)


def is_transformed() -> bool:
    """Return whether a transform of ``torch.func`` or a level of forward-mode differentiation is active."""
    # any tensor may carry a tangent, even a frozen weight
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def anchor(x: Tensor) -> tuple[Tensor]:
    """Return an empty tensor that shares the autograd graph of a layer's input, for :func:`anchored`."""
    return (x.narrow_copy(0, 0, 0),)  # inside a tuple, autograd does not treat it as an input of the Function


def anchored(x_grad: Tensor, anchor: tuple[Tensor]) -> Tensor:
    """Make the gradient of a layer's input depend on that input, if the backward pass is differentiated again.

    For a linear or piecewise linear layer the derivative of this gradient is zero. Plain torch still keeps the gradient
    connected to the input in the graph, and so does this function.
    """
    return x_grad + anchor[0].sum() if torch.is_grad_enabled() else x_grad
