"""Filling a frozen backbone strictly: every tensor, in the right shape, or an error that lists the keys."""

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor

from protuning_mm.checkpoints.errors import CheckpointError, FrozenWeightsError
from protuning_mm.checkpoints.safe_load import load_checkpoint_file

# A bare classifier's own head; everything beside `backbone.` is passed over in a whole model.
CLASSIFIER_HEADS = ('fc.', 'head.', 'classifier.')
_LISTED = 12


def read_backbone_state(checkpoint: str, prefix: str | None = None) -> dict[str, Tensor]:
    """Read the backbone's part of a checkpoint.

    Args:
        checkpoint (str): A path, URL or scheme that mmengine knows. A bare backbone or classifier, or a whole detector,
            segmentor or classifier whose backbone's keys begin with ``backbone.``.
        prefix (str, optional): The prefix of the backbone's keys. Defaults to ``backbone.`` where there are such keys.

    Returns:
        dict[str, Tensor]: The tensors under the backbone's own keys; a classifier's head, necks and heads left out.

    Raises:
        CheckpointError: the file cannot be loaded, or no key has the prefix.
    """
    loaded = load_checkpoint_file(checkpoint)
    state = loaded.get('state_dict', loaded)
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise CheckpointError(f'checkpoint {checkpoint!r} holds no dict of named tensors')
    state = {k.removeprefix('module.'): v for k, v in state.items() if isinstance(v, Tensor)}
    if prefix is None and any(key.startswith('backbone.') for key in state):
        prefix = 'backbone.'
    if not prefix:
        return {k: v for k, v in state.items() if not k.startswith(CLASSIFIER_HEADS)}
    prefix = prefix if prefix.endswith('.') else f'{prefix}.'
    part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not part:
        raise CheckpointError(
            f'checkpoint {checkpoint!r} has no key that begins with {prefix!r}; its keys begin with '
            f'{sorted({key.split(".")[0] for key in state})}'
        )
    return part


def check_frozen_tensors(
    frozen: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
    added: Collection[str] = (),
) -> None:
    """Check that a state fills every frozen tensor, and that it is of no larger network.

    Args:
        frozen (Mapping): The frozen tensors by key.
        state (Mapping): What is to be loaded, under the same keys. ``num_batches_tracked`` may be missing: it is not
            used in eval mode, and older files lack it.
        source (str): What ``state`` was read from, for the error.
        added (Collection[str]): Children of the backbone that a tuning added; their keys are not looked at.

    Raises:
        FrozenWeightsError: lists the keys that are missing, of another shape or unknown.
    """
    missing = [key for key in frozen if key not in state and not key.endswith('num_batches_tracked')]
    reshaped = [
        f'{key}: {tuple(state[key].shape)} there, {tuple(tensor.shape)} here'
        for key, tensor in frozen.items()
        if key in state and state[key].shape != tensor.shape
    ]
    unknown = [key for key in state if key not in frozen and key.split('.')[0] not in added]
    if not (missing or reshaped or unknown):
        return
    raise FrozenWeightsError(
        f'{source} does not fit the frozen backbone of {len(frozen)} tensors:'
        + _listed('missing', missing)
        + _listed('of another shape', reshaped)
        + _listed('unknown to this backbone', unknown)
        + '\nA frozen backbone must be filled wholly. Is the checkpoint of another depth, width or '
        'variant (deep_stem, groups, style) than the config?'
    )


def _listed(what: str, keys: Iterable[str]) -> str:
    keys = list(keys)
    if not keys:
        return ''
    more = f'\n    … and {len(keys) - _LISTED} more' if len(keys) > _LISTED else ''
    return f'\n  {len(keys)} {what}:' + ''.join(f'\n    {key}' for key in keys[:_LISTED]) + more
