"""The backward pass of a ReLU, or of a ReLU6, from one bit per element.

torch saves the whole input or output. The backward pass only needs to know which elements the activation has changed,
and eight such bits fit into one byte.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from protuning_mm.frozen.higher_order import is_observed

# Multiplying eight bytes that are each 0 or 1 by this number packs them into the highest byte: byte j becomes bit j.
_GATHER = 0x0102040810204080
# the integer type of each element size
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class ReluMask(NamedTuple):
    """The elements that a ReLU has changed, one bit each.

    Args:
        bits (Tensor): (⌈numel / 8⌉,), uint8, in memory order; a set bit marks an element that was changed.
        size (torch.Size): Shape of the ReLU's output.
        stride (tuple[int]): Strides of the ReLU's output, contiguous or channels last.
    """

    bits: Tensor
    size: torch.Size
    stride: tuple[int, ...]


def pack_relu_mask(x: Tensor, lowest: float = 0.0, highest: float = math.inf) -> ReluMask:
    """Record which elements a ReLU, or another function that limits values, has changed.

    NaN does not count as changed, as in torch's own backward pass of a ReLU. In torch's of a ReLU6 it depends on the
    element's place in memory.

    Args:
        x (Tensor): The output, dense in memory (see :func:`is_dense`).
        lowest, highest (float): The limits. Defaults to those of a ReLU.
    """
    number, step = x.numel(), _step(x.device)
    flat = x.as_strided((number,), (1,))
    bits = torch.empty((number + 7) // 8, dtype=torch.uint8, device=x.device)
    for start in range(0, number, step):
        part = flat[start : start + step]
        mask = part.le(lowest)
        if highest < math.inf:
            mask.logical_or_(part.ge(highest))
        if len(mask) % 8:
            mask = torch.nn.functional.pad(mask, (0, -len(mask) % 8))
        words = mask.view(torch.int64).mul_(_GATHER)
        bits[start // 8 : start // 8 + len(words)] = words.view(torch.uint8)[7::8]
    return ReluMask(bits, x.shape, x.stride())


def apply_relu_mask(grad: Tensor, mask: ReluMask, inplace: bool = False) -> Tensor:
    """Compute the backward pass of a ReLU: set the gradient to zero where the mask has a bit.

    Args:
        grad (Tensor): The gradient of the ReLU's output.
        mask (ReluMask): The mask from :func:`pack_relu_mask`.
        inplace (bool): Whether ``grad`` may be overwritten. Defaults to False.

    Returns:
        Tensor: The gradient of the ReLU's input, with the strides of the ReLU's output.
    """
    if is_observed(grad):
        return grad.masked_fill(_unpack(mask), 0)
    if grad.stride() != mask.stride:
        grad, inplace = grad.new_empty_strided(mask.size, mask.stride).copy_(grad), True
    out = grad if inplace else torch.empty_like(grad)
    number, integers = grad.numel(), INTEGERS[grad.element_size()]
    source, target = (t.as_strided((number,), (1,)).view(integers) for t in (grad, out))
    table, step = _table(integers, grad.device), _step(grad.device)
    for start in range(0, number, step):
        end = min(start + step, number)
        rows = mask.bits[start // 8 : (end + 7) // 8].int()
        # ANDing with all ones preserves a number bit for bit; ANDing with all zeros gives +0
        keep = table.index_select(0, rows).view(-1)[: end - start]
        torch.bitwise_and(source[start:end], keep, out=target[start:end])
    return out


def _unpack(mask: ReluMask) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=mask.bits.device)
    flat = mask.bits.unsqueeze(1).bitwise_right_shift(places).bitwise_and(1).bool().view(-1)
    return flat.as_strided(mask.size, mask.stride)


def is_dense(x: Tensor) -> bool:
    """Return whether a tensor is contiguous, possibly with channels last."""
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _step(device: torch.device) -> int:
    """Return how many elements to process at once: few enough for a CPU's cache, more on a GPU for fewer launches."""
    return 1 << (19 if device.type == 'cpu' else 24)


@lru_cache
def _table(integers: torch.dtype, device: torch.device) -> Tensor:
    """Return a table (256, 8): for each byte of mask bits, all zeros where a bit is set, all ones elsewhere."""
    with torch.inference_mode(False):
        bits = torch.arange(256).unsqueeze(1).bitwise_right_shift(torch.arange(8)).bitwise_and(1)
        return bits.sub(1).to(device, integers)
