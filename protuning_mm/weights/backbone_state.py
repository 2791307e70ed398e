"""Strict loading of a state dict, in any published layout, into a plain backbone."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from protuning_mm.weights.pretrained import check_frozen_tensors

Convert = Callable[[Any, dict[str, Tensor]], dict[str, Tensor]]


def convert_state(plain: nn.Module, state: dict[str, Tensor], convert: Convert | None = None) -> dict[str, Tensor]:
    """Convert a published state dict to a backbone's keys, and resize position embeddings to the backbone's size.

    Args:
        plain (nn.Module): The backbone.
        state (dict): Tensors by key.
        convert (Callable, optional): Conversion for the backbone's family, see
            :class:`~protuning_mm.stages.Stages`.
    """
    if convert is not None:
        state = convert(plain, state)
    run_load_hooks(plain, state)
    return state


def run_load_hooks(plain: nn.Module, state: dict[str, Tensor], prefix: str = '') -> None:
    """Run the backbone's own pre-loading hooks, such as the one that resizes position embeddings."""
    for hook in plain._load_state_dict_pre_hooks.values():
        hook(state, prefix, {}, True, [], [], [])


def fill_strictly(
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    added: Collection[str],
    optional: Collection[str],
) -> None:
    """Copy a state dict into a backbone's tensors; see :func:`check_frozen_tensors` for the arguments.

    Raises:
        FrozenWeightsError: the state dict lacks tensors or belongs to another network. No tensor is copied then.
    """
    check_frozen_tensors(tensors, state, source=source, added=added, optional=optional)
    with torch.no_grad():
        for key, tensor in tensors.items():
            if key in state:
                tensor.copy_(state[key])


def init_randomly(plain: Any, init_cfg: Any, params_info: Any) -> None:
    """Initialize a host's backbone by the host's own code. Models of timm are already initialized when built.

    Args:
        plain (nn.Module): The backbone.
        init_cfg (dict, optional): mmengine's ``init_cfg``. Defaults to the backbone's own.
        params_info (dict, optional): mmengine's record of initial values, if the whole model is being initialized.
    """
    if not hasattr(plain, '_params_init_info') and not isinstance(plain, BaseModule):
        return
    if params_info is not None:
        plain._params_init_info = params_info
    if init_cfg is not None:
        plain.init_cfg = init_cfg
    plain.init_weights()
    if params_info is not None:
        del plain._params_init_info


def holds(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Return whether the tensors that a state dict contains are bit-identical to the given ones."""
    return all(torch.equal(tensor, state[key].to(tensor)) for key, tensor in tensors.items() if key in state)
