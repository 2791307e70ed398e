"""A frozen residual block as one node of the graph.

y = ReLU(f_k(… ReLU(f_1(x))) + g(x)), where each f and the shortcut g is a convolution with its batch norm, as a rule
folded in. The gradient of x needs the weights, which are there anyway, and for each ReLU which elements it passed on.
So a bit an element is kept, where torch keeps the input of every convolution and of every batch norm: four bytes an
element each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from protuning_mm.frozen.conv import ConvOp, add_gradient, check_unchanged, versions
from protuning_mm.frozen.higher_order import anchored
from protuning_mm.frozen.relu_mask import ReluMask, apply_relu_mask, pack_relu_mask


@dataclass(frozen=True)
class BlockOp:
    """A residual block as numbers.

    Args:
        branch (Sequence[ConvOp]): f_1 … f_k.
        pool (tuple, optional): Arguments of the average pooling before the shortcut's convolution.
        shortcut (ConvOp, optional): g; None where it is the identity.
    """

    branch: Sequence[ConvOp]
    pool: tuple[Any, ...] | None = None
    shortcut: ConvOp | None = None

    def convs(self) -> list[ConvOp]:
        """Every convolution."""
        return [*self.branch, *([] if self.shortcut is None else [self.shortcut])]

    def fits(self, x: torch.Size) -> bool:
        """Whether an input of this size goes through, and both ways end in one size: torch might broadcast."""
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
        """Run the block without a graph.

        Args:
            x (Tensor): (N, C, H, W).
            kept (list, optional): Takes what the backward needs: for each ReLU, in order, what it did not pass on.

        Returns:
            Tensor: (N, C', H', W'), in the weights' type.
        """
        last, shortcut = self.branch[-1], self.shortcut
        dtype = last.weight.dtype
        adds = shortcut is not None and last.norm is None and shortcut.norm is None  # in the sum's place
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
        """The gradient of x, given that of y.

        Args:
            grad (Tensor): The gradient of y; it is left as it is.
            kept (Sequence[ReluMask]): What :meth:`__call__` noted.
            size (torch.Size): Of x.
            dtype (torch.dtype): Of x.

        Returns:
            Tensor: (N, C, H, W), in x's type.
        """
        at_sum = apply_relu_mask(grad, kept[-1])
        down = at_sum
        for conv, mask in zip(self.branch[:0:-1], kept[-2::-1]):
            down = apply_relu_mask(conv.input_grad(down, mask.size[2:]), mask, inplace=True)
        first = self.branch[0]
        if self.shortcut is None:
            # the identity's gradient is the sum's own, and the branch's is added to it
            return first.input_grad(down, size[2:], onto=at_sum.to(dtype))
        x_grad = first.input_grad(down, size[2:]).to(dtype)
        del down
        if self.pool is None:
            return self.shortcut.input_grad(at_sum, size[2:], onto=x_grad)
        like_x = x_grad.new_empty(1).expand(size)  # only its size is read
        pooled_size = F.avg_pool2d(like_x[:1, :1], *self.pool).shape[2:]
        pooled = self.shortcut.input_grad(at_sum, pooled_size).to(dtype)
        return add_gradient(x_grad, torch.ops.aten.avg_pool2d_backward(pooled, like_x, *self.pool))


class ResidualBlock(torch.autograd.Function):
    """:class:`BlockOp` with a gradient for x, and for nothing else.

    The gradient is a linear map of the output's gradient, and does not change with x but at a ReLU's edge. Its own
    derivative by x is zero: see :func:`~protuning_mm.frozen.higher_order.anchored`.
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


def pool_args(pool: nn.AvgPool2d) -> tuple[Any, ...]:
    """An average pooling's settings in the order of torch's functions."""
    return (
        pool.kernel_size,
        pool.stride,
        pool.padding,
        pool.ceil_mode,
        pool.count_include_pad,
        pool.divisor_override,
    )
