"""Deltas of a model in a training loop of one's own, without a runner."""

from pathlib import Path
from typing import Any

from torch import nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.weights import CheckpointError, load_checkpoint_file
from protuning_mm.weights.deltas import RECORD, make_delta
from protuning_mm.weights.fingerprint import fingerprint
from protuning_mm.weights.write import write_checkpoint


def save_delta(model: nn.Module, path: str | Path, **meta: Any) -> None:
    """Save what differs from the frozen base: what was trained, and a record of the base's tensors.

    Args:
        model (nn.Module): A :class:`~protuning_mm.TunedBackbone`, or a model that has one.
        path (str | Path): ``.pth`` or ``.safetensors``.
        **meta: Kept in the file's ``meta``, such as ``classes=('cat', 'dog')``.

    Raises:
        CheckpointError: the model has no tuned backbone, its frozen tensors came from no file, or the path has another
            ending.
        OSError: the file cannot be written; what was there before is untouched.
    """
    backbones = tuned_backbones(model)
    if not backbones:
        raise CheckpointError(f'{type(model).__name__} has no TunedBackbone whose frozen tensors could be left out')
    for name, backbone in backbones.items():
        if backbone.needs_weights():
            raise CheckpointError(
                f'the frozen tensors of {name or type(backbone).__name__} are random, so no base can complete a delta: '
                'fill the backbone from a file first, by init_cfg and init_weights() or load_state_dict()'
            )
    content = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta))
    make_delta(content, backbones, {name: fingerprint(each.frozen_tensors()) for name, each in backbones.items()})
    write_checkpoint(content, path)


def load_delta(model: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load a delta into a model that was built as the one that saved it.

    The frozen tensors of the model are verified against the delta's record. Where they are others, the base is fetched
    from the file that ``init_cfg`` names, then from where the delta says.

    Args:
        model (nn.Module): A :class:`~protuning_mm.TunedBackbone`, or a model that has one.
        path (str | Path): The delta.

    Returns:
        dict: What was given to :func:`save_delta` as ``meta``.

    Raises:
        CheckpointError: the file is no delta, is damaged, does not fit the model, or its base is not found. The model
            is as it was.
    """
    content = load_checkpoint_file(str(path))
    state = content.get('state_dict', content)
    if RECORD not in state:
        raise CheckpointError(f'{path} is no delta: it holds no record of its base')
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f'{path} does not fit {type(model).__name__}: {error}') from None
    return dict(content.get('meta', {}).get('dataset_meta') or {})
