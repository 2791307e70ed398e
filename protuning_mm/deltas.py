"""Saving and loading of deltas in a custom training loop, without a runner."""

from pathlib import Path
from typing import Any

from torch import nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.weights import CheckpointError, load_checkpoint_file
from protuning_mm.weights.deltas import RECORD, make_delta
from protuning_mm.weights.fingerprint import fingerprint
from protuning_mm.weights.write import write_checkpoint


def save_delta(model: nn.Module, path: str | Path, **meta: Any) -> None:
    """Save a delta: all tensors of the model except the frozen ones, and fingerprint and source of the frozen ones.

    Args:
        model (nn.Module): A :class:`~protuning_mm.TunedBackbone`, or a model that contains one.
        path (str | Path): A file name that ends in ``.pth`` or ``.safetensors``.
        **meta: Entries for the file's ``meta``, such as ``classes=('cat', 'dog')``.

    Raises:
        CheckpointError: the model has no tuned backbone, its frozen tensors are random (and ``allow_random_backbone``
            is False), or the path has another extension.
        OSError: the file cannot be written; an existing file is left untouched.
    """
    backbones = tuned_backbones(model)
    if not backbones:
        raise CheckpointError(f'{type(model).__name__} has no TunedBackbone whose frozen tensors could be left out')
    for name, backbone in backbones.items():
        if backbone.needs_weights():
            raise CheckpointError(
                f'the frozen tensors of {name or type(backbone).__name__} are random, so no base can complete a delta: '
                'load a checkpoint into the backbone first, by init_cfg and init_weights() or by load_state_dict()'
            )
    content = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta))
    make_delta(content, backbones, {name: fingerprint(each.frozen_tensors()) for name, each in backbones.items()})
    write_checkpoint(content, path)


def load_delta(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load a delta into a model that was built with the same config as the saved one.

    The model's frozen tensors are verified against the fingerprint in the delta. If they differ, the base is loaded
    from the checkpoint in ``init_cfg`` or, failing that, from the source recorded in the delta.

    Args:
        model (nn.Module): A :class:`~protuning_mm.TunedBackbone`, or a model that contains one.
        path (str | Path): The file of the delta.

    Returns:
        dict: The ``meta`` that was passed to :func:`save_delta`.

    Raises:
        CheckpointError: the file is not a delta, is damaged or does not fit the model, or its base cannot be found.
            The model is left unchanged.
    """
    content = load_checkpoint_file(str(path))
    state = content.get('state_dict', content)
    if RECORD not in state:
        raise CheckpointError(f'{path} is not a delta: it has no record of its base')
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f'{path} does not fit {type(model).__name__}: {error}') from None
    return dict(content.get('meta', {}).get('dataset_meta') or {})
