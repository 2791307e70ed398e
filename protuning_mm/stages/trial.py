"""What a trial run of a network needs: a copy without values, and the sizes of images that the network may accept."""

import copy
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn


def copy_for_trial(network: nn.Module, device: str | None) -> Any:
    """Copy a network in eval mode; with ``device='meta'`` the copy's tensors have no values.

    In eval mode, SyncBatchNorm does not wait for other processes.
    """
    memo: dict[int, Any] = {}
    if device is not None:
        for tensor in chain(network.parameters(), network.buffers()):
            empty = torch.empty_like(tensor, device=device, requires_grad=False)
            memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    trial = copy.deepcopy(network, memo)
    trial.eval()  # not chained, because eval() of some hosts returns None
    return trial


def sizes_to_try(plain: Any, given: Any, others: Sequence[int | tuple[int, int]]) -> list[tuple[int, int]]:
    """Return image sizes to try, (H, W) each. The network's own size comes first, because some accept no other.

    Args:
        plain (nn.Module): The network.
        given (int | tuple, optional): The size in its config.
        others (Sequence[int | tuple]): The sizes to try after its own.
    """
    own = [getattr(holder, 'img_size', None) for holder in (plain, getattr(plain, 'patch_embed', None))]
    published = getattr(plain, 'pretrained_cfg', None) or {}
    found = [given, *own, (published.get('input_size') or (3, None))[1:], *others]
    sizes = [(size, size) if isinstance(size, int) else tuple(size or ()) for size in found]
    return list(dict.fromkeys(size for size in sizes if len(size) == 2 and all(isinstance(s, int) for s in size)))
