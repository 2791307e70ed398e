"""The base of a tuned backbone: the weights of its plain backbone, which are read and loaded strictly."""

import warnings
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from protuning_mm.backbones.hosts import LOADED, read_timm
from protuning_mm.weights.deltas import complete_delta
from protuning_mm.weights.pretrained import check_frozen_tensors, read_backbone_state


def read_base(backbone: Any, source: str, prefix: str | None) -> dict[str, Tensor]:
    """Read the plain backbone's tensors from a checkpoint, in any published layout.

    Position embeddings are resized to the backbone's size.

    Args:
        backbone (TunedBackbone): The backbone.
        source (str): A path, a URL or another address of mmengine, such as ``torchvision://resnet50``, or
            ``timm://<model name>``.
        prefix (str, optional): Key prefix of the backbone in the checkpoint.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, contains no backbone, or unpickling it would run code.
    """
    if source.startswith('timm://'):
        return read_timm(backbone.plain, source)
    state = read_backbone_state(source, prefix, backbone.plain_keys)
    if backbone.structure.convert is not None:
        state = backbone.structure.convert(backbone.plain, state)
    _run_load_hooks(backbone.plain, state)
    return state


def fill_base(backbone: Any, checkpoint: str, prefix: str | None) -> None:
    """Load a checkpoint strictly into the plain backbone; see :func:`read_base` for the arguments.

    Raises:
        CheckpointError: see :func:`read_base`.
        FrozenWeightsError: the checkpoint lacks tensors or belongs to another network. No tensor is copied then.
    """
    state, tensors = read_base(backbone, checkpoint, prefix), backbone.plain_tensors()
    check_frozen_tensors(tensors, state, checkpoint, backbone.added_children, backbone.structure.optional_keys)
    with torch.no_grad():
        for key in tensors.keys() & state.keys():
            tensors[key].copy_(state[key])
    backbone.frozen_source, backbone.frozen_prefix = checkpoint, prefix
    print_log(f'{len(tensors)} tensors of the backbone loaded strictly from {checkpoint}', 'current')


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


def accept_state(backbone: Any, state_dict: dict[str, Tensor], prefix: str) -> None:
    """Check a state dict that a tuned backbone is about to load, and complete it if it is a delta.

    Args:
        backbone (TunedBackbone): The backbone.
        state_dict (dict[str, Tensor]): The state dict of the whole model.
        prefix (str): Prefix of the backbone's keys.

    Raises:
        CheckpointError: a delta does not fit.
        FrozenWeightsError: the state dict does not match the frozen backbone.
    """
    complete_delta(backbone, {'': backbone}, state_dict, prefix)
    _run_load_hooks(backbone.plain, state_dict, prefix)
    state = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    added = backbone.added_children
    if all(key.split('.')[0] in added for key in state) and not backbone.needs_weights():
        return
    check_frozen_tensors(backbone.plain_tensors(), state, f'the state dict (prefix {prefix!r})', added)
    loaded = [(tensor, state[key]) for key, tensor in backbone.frozen_tensors().items() if key in state]
    if backbone.frozen_source is None or not all(torch.equal(own, new.to(own)) for own, new in loaded):
        backbone.frozen_source, backbone.frozen_prefix = LOADED, None


def warn_of_random_weights(backbone: Any) -> None:
    """Warn once if training starts with random frozen tensors; a plain PyTorch loop has no hook that checks it."""
    training = backbone.training and torch.is_grad_enabled()
    if backbone.warned_of_random or backbone.frozen_source is not None or not training:
        return
    if backbone.needs_weights():
        warnings.warn(
            f'{type(backbone).__name__}: the weights of the frozen {type(backbone.plain).__name__} were not loaded '
            "from a file: they are random and will not be trained. Set init_cfg=dict(type='Pretrained', checkpoint=…) "
            'and call init_weights(), or load a state dict; to train with random weights, set '
            'allow_random_backbone=True',
            stacklevel=4,  # the caller of the model
        )
    backbone.warned_of_random = True


def _run_load_hooks(plain: nn.Module, state: dict[str, Tensor], prefix: str = '') -> None:
    """Run the backbone's own pre-loading hooks, such as the one that resizes position embeddings."""
    for hook in plain._load_state_dict_pre_hooks.values():
        hook(state, prefix, {}, True, [], [], [])
