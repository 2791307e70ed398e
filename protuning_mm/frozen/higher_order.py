"""When a backward pass has to be made of operations that torch differentiates, batches and pushes tangents through."""

import torch
from torch import Tensor
from torch.autograd import forward_ad


def is_observed(grad: Tensor) -> bool:
    """Whether derivatives are taken of what a backward pass does, or many gradients run through it at once.

    Derivatives are: under ``create_graph=True`` (gradients are enabled in a backward pass then, and never else), in
    ``torch.func`` and in forward-mode differentiation. Writing to memory past torch, as
    :mod:`~protuning_mm.frozen.relu_mask` and :mod:`~protuning_mm.frozen.conv` do, would drop them.

    Args:
        grad (Tensor): What the backward pass was given, or computed from it; batched under ``is_grads_batched=True``.
    """
    return torch.is_grad_enabled() or is_transformed() or torch._C._functorch.is_legacy_batchedtensor(grad)


def is_transformed() -> bool:
    """Whether a transform of ``torch.func`` or a level of forward-mode differentiation is active."""
    # a tangent may be carried by any tensor, a frozen weight as well
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def anchor(x: Tensor) -> tuple[Tensor]:
    """The graph of a layer's input without its elements, which keeps no memory; for :func:`anchored`."""
    return (x.narrow_copy(0, 0, 0),)  # in a tuple it is no input of a Function


def anchored(x_grad: Tensor, anchor: tuple[Tensor]) -> Tensor:
    """The gradient of a layer's input as a function of that input, where it is differentiated again.

    For what is linear, or is but for its kinks, the derivative is zero. It is not a constant for autograd in plain
    torch, and is none here.
    """
    return x_grad + anchor[0].sum() if torch.is_grad_enabled() else x_grad
