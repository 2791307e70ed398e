"""Filling a frozen backbone strictly: every tensor, in the right shape, or an error that lists the keys."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from protuning_mm.weights.deltas.record import RECORD
from protuning_mm.weights.errors import CheckpointError, FrozenWeightsError
from protuning_mm.weights.listing import listed
from protuning_mm.weights.load import load_checkpoint_file

# What stands beside a bare backbone in published files: a classifier's head or heads, MoCo v3's projector (which takes
# the head's place), MAE's decoder.
_BESIDE = ('fc.', 'head.', 'head_dist.', 'classifier.', 'mask_token', 'decoder_')
# Where a file's tensors are: mmengine and MoCo v3; DeiT, Swin and MAE.
_WRAPPERS = ('state_dict', 'model')
# What the backbone's keys begin with in a larger model: the hosts' models; MoCo v3, whose other encoder is an average.
_PREFIXES = ('backbone.', 'base_encoder.')
_NOT_LEARNED = ('num_batches_tracked', 'relative_position_index', 'attn_mask')


def read_backbone_state(checkpoint: str, prefix: str | None = None, own: Collection[str] = ()) -> dict[str, Tensor]:
    """Read the backbone's part of a checkpoint.

    Args:
        checkpoint (str): A path (``.safetensors`` too), URL or scheme that mmengine knows. A bare backbone or
            classifier, or a whole detector, segmentor or classifier whose backbone's keys begin with ``backbone.``, or
            what the authors of DeiT, Swin, MAE and MoCo v3 publish.
        prefix (str, optional): The prefix of the backbone's keys. Defaults to ``backbone.`` where there are such keys,
            then to MoCo v3's ``base_encoder.``.
        own (Collection[str]): The backbone's own keys, which are never taken for a classifier's head.

    Returns:
        dict[str, Tensor]: The tensors under the backbone's own keys; a classifier's head, necks and heads left out.

    Raises:
        CheckpointError: the file cannot be loaded, or no key has the prefix.
    """
    loaded = load_checkpoint_file(checkpoint)
    state = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise CheckpointError(f'checkpoint {checkpoint!r} holds no dict of named tensors')
    if any(key.endswith(RECORD) for key in state):
        raise CheckpointError(
            f'checkpoint {checkpoint!r} is a delta: it holds no frozen backbone. Load it with load_from, or make it '
            'whole with tools/model_converters/merge_delta.py.'
        )
    state = {k.removeprefix('module.'): v for k, v in state.items() if isinstance(v, Tensor)}
    if prefix is None:
        prefix = next((p for p in _PREFIXES if any(key.startswith(p) for key in state)), None)
    if prefix:
        prefix = prefix if prefix.endswith('.') else f'{prefix}.'
        part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if not part:
            raise CheckpointError(
                f'checkpoint {checkpoint!r} has no key that begins with {prefix!r}; its keys begin with '
                f'{sorted({key.split(".")[0] for key in state})}'
            )
        state = part
    return {k: v for k, v in state.items() if k in own or not k.startswith(_BESIDE)}


def check_frozen_tensors(
    frozen: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    added: Collection[str] = (),
    optional: Collection[str] = (),
) -> None:
    """Check that a state fills every frozen tensor, and that it is of no larger network.

    Args:
        frozen (Mapping): The frozen tensors by key.
        state (Mapping): What is to be loaded, under the same keys. ``num_batches_tracked`` may be missing: it is not
            used in eval mode, and older files lack it. So may constants that follow from the config.
        source (str): What ``state`` was read from, for the error.
        added (Collection[str]): Children of the backbone that a tuning added; their keys are not looked at.
        optional (Collection[str]): Beginnings of keys that may be missing.

    Raises:
        FrozenWeightsError: lists the keys that are missing, of another kind or shape, or unknown.
    """
    missing = [
        key
        for key in frozen
        if key not in state and not key.endswith(_NOT_LEARNED) and not key.startswith(tuple(optional))
    ]
    odd = {key: kind for key in frozen if key in state and (kind := _odd_kind(state[key], frozen[key])) is not None}
    reshaped = [
        f'{key}: {tuple(state[key].shape)} there, {tuple(tensor.shape)} here'
        for key, tensor in frozen.items()
        if key in state and key not in odd and state[key].shape != tensor.shape
    ]
    unknown = [key for key in state if key not in frozen and key.split('.')[0] not in added]
    if not (missing or odd or reshaped or unknown):
        return
    raise FrozenWeightsError(
        f'{source} does not fit the frozen backbone of {len(frozen)} tensors:'
        + listed('missing', missing)
        + listed('of another kind', (f'{key}: {kind}' for key, kind in odd.items()))
        + listed('of another shape', reshaped)
        + listed('unknown to this backbone', unknown)
        + '\nA frozen backbone must be filled wholly. Is the checkpoint of another depth, width or '
        'variant (deep_stem, groups, style) than the config?'
    )


def _odd_kind(value: object, tensor: Tensor) -> str | None:
    """What a value is where it is nothing that could be copied into a frozen tensor as it is."""
    if not isinstance(value, Tensor):
        return f'{type(value).__name__}, no tensor'
    if value.layout != torch.strided or value.is_quantized:
        return f'a tensor of layout {value.layout}, {value.dtype}'
    return f'{value.dtype}' if tensor.is_floating_point() and not value.is_floating_point() else None
