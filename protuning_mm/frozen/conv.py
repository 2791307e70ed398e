"""Convolutions and batch norms as plain tensors, with separate functions for the output and for each gradient."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protuning_mm.frozen.higher_order import is_observed

# Pixels of a map up to which the input gradient of a pointwise convolution is a convolution too. It is faster than a
# matrix product where oneDNN is faster than BLAS, but copies the maps to another layout.
_SMALL = 64 * 64


class NormOp(NamedTuple):
    """A batch norm with fixed statistics, without a module and without an autograd graph.

    Args:
        mean, var (Tensor): (C,), the running statistics.
        weight, bias (Tensor, optional): (C,), γ and β.
        eps (float): ε.
        scale (Tensor): (C, 1, 1), γ / √(σ² + ε) in float32.
    """

    mean: Tensor
    var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Normalize maps of (N, C, H, W)."""
        return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, False, 0.0, self.eps)

    def input_grad(self, grad: Tensor) -> Tensor:
        """Return the gradient of the input, given the gradient of the output."""
        return (grad * self.scale).to(grad.dtype)


def norm_op(norm: Any) -> NormOp:
    """Read a batch norm module that has running statistics."""
    with torch.no_grad(), torch.inference_mode(False):
        weight, bias = (None if t is None else t.detach() for t in (norm.weight, norm.bias))
        mean, var = norm.running_mean.detach(), norm.running_var.detach()
        return NormOp(mean, var, weight, bias, norm.eps, norm_scale(norm).view(-1, 1, 1))


def norm_scale(norm: Any) -> Tensor:
    """Return γ / √(σ² + ε) of a batch norm: (C,), in at least float32."""
    exact = torch.promote_types(norm.running_var.dtype, torch.float32)
    scale = (norm.running_var.to(exact) + norm.eps).rsqrt()
    return scale if norm.weight is None else scale * norm.weight.to(exact)


class ConvOp(NamedTuple):
    """A convolution without a module and without an autograd graph.

    Args:
        weight (Tensor): (C_out, C_in / groups, k_h, k_w).
        bias (Tensor, optional): (C_out,).
        stride, padding, dilation (tuple[int, int]): As in :class:`torch.nn.Conv2d`.
        groups (int): As in :class:`torch.nn.Conv2d`.
        norm (NormOp, optional): The batch norm after the convolution, unless it is folded into it.
        scale (Tensor, optional): (C_out, 1, 1, 1), the factors of a folded norm. At each use the weight is multiplied
            by them anew, so that no scaled copy is stored.
        cast (torch.dtype, optional): Dtype to which the weight is cast at each use.
    """

    weight: Tensor
    bias: Tensor | None = None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    norm: NormOp | None = None
    scale: Tensor | None = None
    cast: torch.dtype | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the result."""
        return self.cast or self.weight.dtype

    def used_weight(self) -> Tensor:
        """Return the weight, multiplied by the folded norm's factors and cast."""
        weight = self.weight if self.scale is None else self.weight.to(self.scale.dtype) * self.scale
        return weight.to(self.dtype)

    def _is_matmul(self, x: Tensor) -> bool:
        """Return whether to use a matrix product; oneDNN would copy contiguous maps to its own layout and back."""
        return self.weight.shape[2:] == (1, 1) and x.is_contiguous() and self._may_be_matmul(x)

    def _may_be_matmul(self, x: Tensor) -> bool:
        fits = x.device.type == 'cpu' and x.element_size() >= 4
        return self.padding == (0, 0) and self.groups == 1 and fits and not is_observed(x)

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """Apply the convolution and its norm.

        Args:
            x (Tensor): (N, C_in, H, W).
            onto (Tensor, optional): (N, C_out, H', W'). Add the result to this tensor in place, without the bias. Not
                allowed together with a norm.

        Returns:
            Tensor: (N, C_out, H', W'), or ``onto``.
        """
        if self.norm is not None:
            return self.norm(self._replace(norm=None)(x))
        bias = None if onto is not None else self.bias
        y = F.conv2d(x, self.used_weight(), bias, self.stride, self.padding, self.dilation, self.groups)
        if self.weight.shape[2:] == (1, 1) and x.is_contiguous():
            y = y.contiguous()  # the layout of a single channel's map is ambiguous, and oneDNN may take the other one
        return y if onto is None else onto.add_(y)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the output shape (C, H, W) for an input shape (C, H, W); None if torch would reject the input."""
        spans = zip(self._spans(shape[1:]), self.stride)
        size = (span // stride + 1 if stride > 0 else 0 for span, stride in spans)
        result = (len(self.weight), *size)
        return result if self.weight.shape[1] * self.groups == shape[0] and min(result) > 0 else None

    def _spans(self, size: Sequence[int]) -> list[int]:
        """Return how far the kernel can move over an input of (H, W), in each direction."""
        settings = zip(size, self.weight.shape[2:], self.padding, self.dilation)
        return [full + 2 * padding - dilation * (kernel - 1) - 1 for full, kernel, padding, dilation in settings]

    def input_grad(self, grad: Tensor, size: Sequence[int], onto: Tensor | None = None) -> Tensor:
        """Return the gradient of the input, given the gradient of the output.

        Args:
            grad (Tensor): (N, C_out, H', W'), the gradient of the output.
            size (Sequence[int]): (H, W) of the input.
            onto (Tensor, optional): (N, C_in, H, W). Add the result to this tensor, in place unless the backward pass
                is itself differentiated.

        Returns:
            Tensor: (N, C_in, H, W).
        """
        if self.norm is not None:
            grad = self.norm.input_grad(grad)
        if self._is_matmul(grad) and (onto is None or (onto.is_contiguous() and onto.dtype == grad.dtype)):
            return self._pointwise_input_grad(grad, size, onto)
        kernel = self.weight.shape[2]
        of_patches = tuple(size) == tuple(kernel * each for each in grad.shape[2:])
        if of_patches and self.stride == self.weight.shape[2:] == (kernel, kernel) and self._may_be_matmul(grad):
            # each pixel is in one patch; oneDNN would make two copies of the weight, larger than the maps
            matrix = self.used_weight().flatten(1).t().expand(len(grad), -1, -1)
            x_grad = F.pixel_shuffle(_product(matrix, grad.flatten(2), grad.shape[2:]), kernel)
            return x_grad if onto is None else add_gradient(onto, x_grad)
        output_padding = [span % stride for span, stride in zip(self._spans(size), self.stride)]
        x_grad = F.conv_transpose2d(
            grad, self.used_weight(), None, self.stride, self.padding, output_padding, self.groups, self.dilation
        )
        return x_grad if onto is None else add_gradient(onto, x_grad)

    def weight_grad(self, grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the gradients of the weight and of the bias (None without a bias).

        Args:
            grad (Tensor): (N, C_out, H', W'), the gradient of the output.
            x (Tensor): (N, C_in, H, W), the input.
        """
        if self._is_matmul(x) and self.stride == (1, 1):
            weight = torch.bmm(grad.flatten(2), x.flatten(2).transpose(1, 2)).sum(0).view(self.weight.shape)
            return weight, None if self.bias is None else grad.sum((0, 2, 3))
        geometry = (self.stride, self.padding, self.dilation, False, (0, 0), self.groups)  # False: not transposed
        wanted = (False, True, self.bias is not None)
        _, weight, bias = torch.ops.aten.convolution_backward(
            grad, x, self.weight, [len(self.weight)], *geometry, wanted
        )
        return weight, bias

    def _pointwise_input_grad(self, grad: Tensor, size: Sequence[int], onto: Tensor | None) -> Tensor:
        if self.stride == (1, 1) and size[0] * size[1] <= _SMALL:
            x_grad = F.conv2d(grad, self.used_weight().transpose(0, 1))
            return x_grad if onto is None else onto.add_(x_grad)
        matrix = self.used_weight().flatten(1).t().expand(len(grad), -1, -1)
        columns = grad.flatten(2)
        if self.stride == (1, 1):
            return _product(matrix, columns, size, onto)
        x_grad = _product(matrix, columns, grad.shape[2:])
        if onto is None:
            onto = x_grad.new_zeros(len(grad), x_grad.shape[1], *size)
        onto[:, :, :: self.stride[0], :: self.stride[1]] += x_grad
        return onto


def add_gradient(onto: Tensor, grad: Tensor) -> Tensor:
    """Add two gradients, in place of the first unless the backward pass is itself differentiated."""
    return onto + grad if is_observed(onto) else onto.add_(grad)


def versions(ops: Iterable[ConvOp]) -> list[int]:
    """Return the version counter of each convolution's weight, which counts in-place changes."""
    return [-1 if op.weight.is_inference() else op.weight._version for op in ops]


def check_unchanged(ops: Iterable[ConvOp], noted: list[int]) -> None:
    """Refuse a backward pass if a weight has changed since the forward pass, as torch does.

    Args:
        ops (Iterable[ConvOp]): The convolutions.
        noted (list[int]): Their :func:`versions` during the forward pass.

    Raises:
        RuntimeError: a weight was changed in place after the forward pass.
    """
    if versions(ops) != noted:
        raise RuntimeError(
            'one of the variables needed for gradient computation has been modified by an inplace operation: the '
            'weight of a frozen convolution was changed between the forward and the backward pass'
        )


def _product(matrix: Tensor, columns: Tensor, size: Sequence[int], onto: Tensor | None = None) -> Tensor:
    """Multiply a matrix with each image's columns, or add the result to ``onto`` in place.

    Without ``onto`` the result is a new tensor, because autograd forbids in-place changes to a view returned by a
    Function.
    """
    if onto is not None:
        onto.flatten(2).baddbmm_(matrix, columns)
        return onto
    maps = columns.new_empty(len(columns), matrix.shape[1], *size)
    torch.bmm(matrix, columns, out=maps.flatten(2))
    return maps


def unfolded(conv: nn.Conv2d, norm: Any = None) -> ConvOp:
    """Read a convolution module with a supported :func:`geometry`, and the batch norm after it."""
    geo = geometry(conv)
    assert geo is not None
    bias = None if conv.bias is None else conv.bias.detach()
    return ConvOp(conv.weight.detach(), bias, **geo, norm=None if norm is None else norm_op(norm))


def geometry(conv: nn.Conv2d) -> dict[str, Any] | None:
    """Return stride, padding, dilation and groups of a convolution.

    Returns:
        dict: None if the padding is not zero padding of a fixed size, or if a setting is malformed.
    """
    given = dict(stride=conv.stride, padding=0 if conv.padding == 'valid' else conv.padding, dilation=conv.dilation)
    pairs = {name: _pair(value) for name, value in given.items()}
    if conv.padding_mode != 'zeros' or None in pairs.values():
        return None
    return dict(pairs, groups=conv.groups)


def _pair(value: Any) -> tuple[int, int] | None:
    """Expand a number, or a sequence of one or two numbers, to a pair; return None for anything else."""
    if type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int:  # the usual case first
        return value
    values = value if isinstance(value, list | tuple) else (value,)
    if len(values) in (1, 2) and all(isinstance(v, int) for v in values):
        return values[0], values[-1]
    return None
