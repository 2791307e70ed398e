"""One bit an element for each ReLU: all that its backward needs.

torch keeps a ReLU's whole output. Whether an element was passed on is one bit, and eight of them are one byte.
"""

import ctypes
import os
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from protuning_mm.frozen.higher_order import is_observed

# Multiplying eight bytes that are each 0 or 1 by this gathers them in the highest byte: byte j becomes bit j.
_GATHER = 0x0102040810204080
# twice as fast as torch.equal
_compare_memory = ctypes.CDLL('msvcrt' if os.name == 'nt' else None).memcmp
_compare_memory.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class ReluMask(NamedTuple):
    """Which elements a ReLU did not pass on.

    Args:
        bits (Tensor): (⌈numel / 8⌉,), uint8, in memory order.
        size (torch.Size): Of the ReLU's output.
        stride (tuple[int]): Of the ReLU's output: contiguous, or with channels last.
    """

    bits: Tensor
    size: torch.Size
    stride: tuple[int, ...]


def pack_relu_mask(x: Tensor) -> ReluMask:
    """Note which elements of a ReLU's output, dense in memory, were not passed on.

    A NaN was passed on, as it is in torch's own backward.
    """
    number, step = x.numel(), _step(x.device)
    flat = x.as_strided((number,), (1,))
    bits = torch.empty((number + 7) // 8, dtype=torch.uint8, device=x.device)
    for start in range(0, number, step):
        mask = flat[start : start + step].le(0)
        if len(mask) % 8:
            mask = torch.nn.functional.pad(mask, (0, -len(mask) % 8))
        words = mask.view(torch.int64).mul_(_GATHER)
        bits[start // 8 : start // 8 + len(words)] = words.view(torch.uint8)[7::8]
    return ReluMask(bits, x.shape, x.stride())


def apply_relu_mask(grad: Tensor, mask: ReluMask, inplace: bool = False) -> Tensor:
    """A ReLU's backward: zero where an element was not passed on, the gradient itself elsewhere.

    Args:
        grad (Tensor): The gradient of the ReLU's output.
        mask (ReluMask): What :func:`pack_relu_mask` noted.
        inplace (bool): Whether ``grad`` may be written to. Defaults to False.

    Returns:
        Tensor: In the layout of the ReLU's output.
    """
    if is_observed(grad):
        return grad.masked_fill(_unpack(mask), 0)
    if grad.stride() != mask.stride:
        grad, inplace = grad.new_empty_strided(mask.size, mask.stride).copy_(grad), True
    out = grad if inplace else torch.empty_like(grad)
    number, integers = grad.numel(), _INTEGERS[grad.element_size()]
    source, target = (t.as_strided((number,), (1,)).view(integers) for t in (grad, out))
    table, step = _table(integers, grad.device), _step(grad.device)
    for start in range(0, number, step):
        end = min(start + step, number)
        rows = mask.bits[start // 8 : (end + 7) // 8].int()
        # all ones leave a number as it is, bit for bit; all zeros make it +0
        keep = table.index_select(0, rows).view(-1)[: end - start]
        torch.bitwise_and(source[start:end], keep, out=target[start:end])
    return out


def _unpack(mask: ReluMask) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=mask.bits.device)
    flat = mask.bits.unsqueeze(1).bitwise_right_shift(places).bitwise_and(1).bool().view(-1)
    return flat.as_strided(mask.size, mask.stride)


def is_dense(x: Tensor) -> bool:
    """Whether memory order is plain: contiguous, or contiguous with channels last."""
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def same_words(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape and type, on a CPU, hold the same bits: a NaN equals itself."""
    if a.stride() == b.stride() and is_dense(a):
        return _compare_memory(a.data_ptr(), b.data_ptr(), a.nbytes) == 0
    return torch.equal(a, b)


def _step(device: torch.device) -> int:
    """How many elements are handled at once: what the cache holds on a CPU, fewer launches on a GPU."""
    return 1 << (19 if device.type == 'cpu' else 24)


@lru_cache
def _table(integers: torch.dtype, device: torch.device) -> Tensor:
    """(256, 8): for each byte of bits, all zeros where a bit is set, all ones elsewhere."""
    with torch.inference_mode(False):
        bits = torch.arange(256).unsqueeze(1).bitwise_right_shift(torch.arange(8)).bitwise_and(1)
        return bits.sub(1).to(device, integers)
