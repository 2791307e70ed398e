"""A frozen residual block as one autograd node.

y = ReLU(f_k(… ReLU(f_1(x))) + g(x)), where each f and the shortcut g is a convolution with its batch norm, usually
folded in. The gradient of x needs the weights, which exist anyway, and the mask of each ReLU. So one bit per element is
saved, where torch saves the input of every convolution and every batch norm, at four bytes per element.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from protuning_mm.frozen.conv import ConvOp, add_gradient, check_unchanged, versions
from protuning_mm.frozen.higher_order import anchored
from protuning_mm.frozen.relu_mask import ReluMask, apply_relu_mask, pack_relu_mask

# the settings of an average pooling in the argument order of torch's functions
pool_args = attrgetter('kernel_size', 'stride', 'padding', 'ceil_mode', 'count_include_pad', 'divisor_override')


@dataclass(frozen=True)
class BlockOp:
    """A residual block as plain tensors, without modules.

    Args:
        branch (Sequence[ConvOp]): f_1 … f_k.
        pool (tuple, optional): Arguments of the average pooling before the shortcut's convolution.
        shortcut (ConvOp, optional): g; None for the identity.
    """

    branch: Sequence[ConvOp]
    pool: tuple[Any, ...] | None = None
    shortcut: ConvOp | None = None

    def convs(self) -> list[ConvOp]:
        """Return every convolution, the shortcut's last."""
        return [*self.branch, *([] if self.shortcut is None else [self.shortcut])]

    def fits(self, x: torch.Size) -> bool:
        """Return whether the block accepts an input of this shape.

        Branch and shortcut must give the same shape; torch's addition would silently broadcast otherwise.
        """
        y: tuple[int, ...] | None = tuple(x[1:])
        given = y
        for conv in self.branch:
            y = None if y is None else conv.output_shape(y)
        if self.shortcut is not None:
            size = x[2:]
            if self.pool is not None:
                size = F.avg_pool2d(torch.empty(1).expand(1, 1, *size), *self.pool).shape[2:]
            given = self.shortcut.output_shape((x[1], *size))
        return y is not None and y == given

    def __call__(self, x: Tensor, kept: list[ReluMask] | None = None) -> Tensor:
        """Run the block without building a graph.

        Args:
            x (Tensor): (N, C, H, W).
            kept (list, optional): List to which the mask of each ReLU is appended, in order, for the backward pass.

        Returns:
            Tensor: (N, C', H', W'), in the dtype of the weights.
        """
        last, shortcut = self.branch[-1], self.shortcut
        dtype = last.dtype
        # whether the shortcut's convolution can add its result to the branch's in place
        adds = shortcut is not None and last.norm is None and shortcut.norm is None
        if adds and shortcut is not None and shortcut.bias is not None:
            last = last._replace(bias=shortcut.bias if last.bias is None else last.bias + shortcut.bias)
        y = x.to(dtype)
        for conv in self.branch[:-1]:
            y = conv(y).relu_()
            if kept is not None:
                kept.append(pack_relu_mask(y))
        y = last(y)
        if shortcut is None:
            y.add_(x)
        else:
            pooled = x if self.pool is None else F.avg_pool2d(x, *self.pool)
            y = shortcut(pooled.to(dtype), onto=y) if adds else y.add_(shortcut(pooled.to(dtype)))
        y.relu_()
        if kept is not None:
            kept.append(pack_relu_mask(y))
        return y

    def input_grad(self, grad: Tensor, kept: Sequence[ReluMask], size: torch.Size, dtype: torch.dtype) -> Tensor:
        """Return the gradient of x, given the gradient of y.

        Args:
            grad (Tensor): (N, C', H', W'), the gradient of y; not modified.
            kept (Sequence[ReluMask]): The ReLU masks that :meth:`__call__` appended.
            size (torch.Size): Shape of x.
            dtype (torch.dtype): Dtype of x.

        Returns:
            Tensor: (N, C, H, W), in the dtype of x.
        """
        at_sum = apply_relu_mask(grad, kept[-1])
        down = at_sum
        for conv, mask in zip(self.branch[:0:-1], kept[-2::-1]):
            down = apply_relu_mask(conv.input_grad(down, mask.size[2:]), mask, inplace=True)
        first = self.branch[0]
        if self.shortcut is None:
            # the identity passes the sum's gradient on unchanged, so the branch's gradient is added to it
            return first.input_grad(down, size[2:], onto=at_sum.to(dtype))
        x_grad = first.input_grad(down, size[2:]).to(dtype)
        del down
        if self.pool is None:
            return self.shortcut.input_grad(at_sum, size[2:], onto=x_grad)
        like_x = x_grad.new_empty(1).expand(size)  # only its shape is read
        pooled_size = F.avg_pool2d(like_x[:1, :1], *self.pool).shape[2:]
        pooled = self.shortcut.input_grad(at_sum, pooled_size).to(dtype)
        return add_gradient(x_grad, torch.ops.aten.avg_pool2d_backward(pooled, like_x, *self.pool))


class ResidualBlock(torch.autograd.Function):
    """Runs a :class:`BlockOp` with a gradient for x only.

    The gradient is a linear function of the output's gradient and piecewise constant in x. Its derivative with respect
    to x is therefore zero: see :func:`~protuning_mm.frozen.higher_order.anchored`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, block: BlockOp, anchor: tuple[Tensor]) -> Tensor:
        kept: list[ReluMask] = []
        y = block(x, kept)
        ctx.save_for_backward(*(mask.bits for mask in kept))
        ctx.layouts = [mask[1:] for mask in kept]
        ctx.block, ctx.size, ctx.dtype, ctx.anchor = block, x.shape, x.dtype, anchor
        ctx.versions = versions(block.convs())
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        check_unchanged(ctx.block.convs(), ctx.versions)
        kept = [ReluMask(bits, *layout) for bits, layout in zip(ctx.saved_tensors, ctx.layouts)]
        with torch.autocast(grad.device.type, enabled=False):
            x_grad = ctx.block.input_grad(grad, kept, ctx.size, ctx.dtype)
        return anchored(x_grad, ctx.anchor), None, None
