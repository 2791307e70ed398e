"""Saving and loading of deltas in a custom training loop, without a runner."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from protuning_mm.backbones import tuned_backbones
from protuning_mm.weights import CheckpointError, load_checkpoint_file
from protuning_mm.weights.deltas import RECORD, make_delta
from protuning_mm.weights.fingerprint import fingerprint
from protuning_mm.weights.write import write_checkpoint


def save_delta(model: nn.Module, path: str | Path, **meta: Any) -> None:
    """Save a delta: fingerprint and source of the frozen tensors, and all other tensors of the model.

    Args:
        model (nn.Module): A :class:`~protuning_mm.TunedBackbone`, or a model that contains one.
        path (str | Path): A file name that ends in ``.pth`` or ``.safetensors``.
        **meta: Entries for ``dataset_meta`` in the file's ``meta``, such as ``classes=('cat', 'dog')``.

    Raises:
        CheckpointError: the model has no tuned backbone, its frozen tensors are random (and ``allow_random_backbone``
            is False), or the path has another extension.
        OSError: the file cannot be written; an existing file is left untouched.
    """
    backbones = tuned_backbones(model)
    if not backbones:
        raise CheckpointError(f'{type(model).__name__} contains no TunedBackbone, so no delta can be saved')
    for name, backbone in backbones.items():
        if backbone.needs_weights():
            raise CheckpointError(
                f'the frozen tensors of {name or type(backbone).__name__} are random: no checkpoint contains them, so '
                'a delta could not be loaded again. Load a checkpoint into the backbone first, by init_cfg and '
                'init_weights() or by load_state_dict()'
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
    content = load_delta_file(model, path, type(model).__name__)
    return dict(content.get('meta', {}).get('dataset_meta') or {})


def load_delta_file(model: nn.Module, path: str | Path, name: str) -> dict[str, Any]:
    """Load a delta as :func:`load_delta` does, and return all that its file contains; ``name`` is for errors."""
    content = load_checkpoint_file(str(path))
    state = content.get('state_dict', content)
    if RECORD not in state:
        raise CheckpointError(f'{path} is not a delta: it has no record of its base')
    load_strictly(model, state, path, name)
    return content


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], path: str | Path, name: str) -> None:
    """Load a state dict strictly.

    Args:
        model (nn.Module): The model.
        state (Mapping[str, Tensor]): The state dict.
        path (str | Path): The file of the state dict, for errors.
        name (str): The model, for errors.

    Raises:
        CheckpointError: the state dict does not fit the model.
    """
    try:
        model.load_state_dict(state, strict=True)
    except CheckpointError:
        raise
    except RuntimeError as error:  # torch's list of missing and unexpected keys
        raise CheckpointError(f'{path} does not fit {name}: {error}') from None
