"""Reading of pre-trained backbones, and the strict check of their tensors against a frozen backbone."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from protuning_mm.weights.deltas.record import RECORD
from protuning_mm.weights.errors import CheckpointError, FrozenWeightsError
from protuning_mm.weights.listing import listed
from protuning_mm.weights.load import load_checkpoint_file

# Key prefixes that published files contain in addition to a bare backbone: the heads of a classifier, the projector of
# MoCo v3 (in place of the head) and the decoder of MAE. ``_fc.`` is the head in EfficientNet-PyTorch.
_NOT_BACKBONE = ('fc.', 'head.', 'head_dist.', 'classifier.', 'mask_token', 'decoder_', '_fc.')
# Keys under which files store their tensors: mmengine and MoCo v3; DeiT, Swin and MAE.
_WRAPPERS = ('state_dict', 'model')
# Key prefixes of the backbone in a larger model: the hosts' models; MoCo v3, whose other encoder is a moving average.
_PREFIXES = ('backbone.', 'base_encoder.')
_NOT_LEARNED = ('num_batches_tracked', 'relative_position_index', 'attn_mask')


def read_backbone_state(checkpoint: str, prefix: str | None = None, own: Collection[str] = ()) -> dict[str, Tensor]:
    """Read the backbone's part of a checkpoint.

    Args:
        checkpoint (str): A path (also of ``.safetensors``), URL or scheme that mmengine supports. The file may contain
            a bare backbone, a classifier, a whole model of the hosts with the key prefix ``backbone.``, or a checkpoint
            of the authors of DeiT, Swin, MAE or MoCo v3.
        prefix (str, optional): Key prefix of the backbone. Defaults to ``backbone.`` if the file has such keys, then
            to ``base_encoder.`` (MoCo v3).
        own (Collection[str]): The backbone's keys, which are kept even if they look like those of a head.

    Returns:
        dict[str, Tensor]: The backbone's tensors, by the keys of the file without the prefix; necks and heads are left
        out.

    Raises:
        CheckpointError: the file cannot be loaded, or no key has the prefix.
    """
    loaded = load_checkpoint_file(checkpoint)
    state = next((loaded[key] for key in _WRAPPERS if isinstance(loaded.get(key), Mapping)), loaded)
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise CheckpointError(f'checkpoint {checkpoint!r} contains no dict of named tensors')
    if any(key.endswith(RECORD) for key in state):
        raise CheckpointError(
            f'checkpoint {checkpoint!r} is a delta: it does not contain the frozen backbone. Load it with '
            'load_from, or merge it with its base by tools/model_converters/merge_delta.py.'
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
    return {k: v for k, v in state.items() if k in own or not k.startswith(_NOT_BACKBONE)}


def check_frozen_tensors(
    frozen: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    added: Collection[str] = (),
    optional: Collection[str] = (),
) -> None:
    """Check that a state dict contains every frozen tensor in the right shape, and no others.

    Args:
        frozen (Mapping): The frozen tensors by key.
        state (Mapping): The state dict to load. ``num_batches_tracked`` may be missing, because eval mode does not use
            it and older files lack it. Constants that follow from the config may be missing, too.
        source (str): The origin of ``state``, for the error message.
        added (Collection[str]): Children of the backbone that a tuning added; their keys are not checked.
        optional (Collection[str]): Prefixes of keys that may be missing.

    Raises:
        FrozenWeightsError: keys are missing or unknown, or tensors have the wrong type or shape; the error lists them.
    """
    missing = [
        key
        for key in frozen
        if key not in state and not key.endswith(_NOT_LEARNED) and not key.startswith(tuple(optional))
    ]
    wrong = {key: kind for key in frozen if key in state and (kind := _wrong_type(state[key], frozen[key])) is not None}
    reshaped = [
        f'{key}: {tuple(state[key].shape)} in the file, {tuple(tensor.shape)} in the backbone'
        for key, tensor in frozen.items()
        if key in state and key not in wrong and state[key].shape != tensor.shape
    ]
    unknown = [key for key in state if key not in frozen and key.split('.')[0] not in added]
    if not (missing or wrong or reshaped or unknown):
        return
    raise FrozenWeightsError(
        f'{source} does not fit the frozen backbone of {len(frozen)} tensors:'
        + listed('missing', missing)
        + listed('of the wrong type', (f'{key}: {kind}' for key, kind in wrong.items()))
        + listed('of another shape', reshaped)
        + listed('unknown to this backbone', unknown)
        + '\nA frozen backbone must be loaded completely. Does the checkpoint belong to another depth, width or '
        'variant (deep_stem, groups, style) than the config?'
    )


def _wrong_type(value: object, tensor: Tensor) -> str | None:
    """Describe a value that cannot be copied into a frozen tensor; return None if it can be copied."""
    if not isinstance(value, Tensor):
        return f'{type(value).__name__}, not a tensor'
    if value.layout != torch.strided or value.is_quantized:
        return f'a tensor of layout {value.layout}, {value.dtype}'
    return f'{value.dtype}' if tensor.is_floating_point() and not value.is_floating_point() else None
