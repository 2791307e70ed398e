"""Making a delta of a whole checkpoint: the base is removed, and a record that identifies it is added."""

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from protuning_mm.weights.deltas.base import FrozenBackbone
from protuning_mm.weights.deltas.record import RECORD, Base, DeltaRecord
from protuning_mm.weights.errors import FrozenWeightsError
from protuning_mm.weights.fingerprint import Fingerprint, fingerprint
from protuning_mm.weights.listing import listed

# state dicts of models in mmengine's checkpoints, and the prefix of the model's names in each
_STATES = {'state_dict': '', 'ema_state_dict': 'module.'}
# parts of a checkpoint that only resuming needs
_TRAINING_STATE = ('optimizer', 'param_schedulers', 'ema_state_dict', 'message_hub', 'resume_state')


def make_delta(
    checkpoint: dict[str, Any], backbones: Mapping[str, FrozenBackbone], bases: Mapping[str, Fingerprint]
) -> None:
    """Remove the base from a checkpoint, in place.

    EMA's averages of frozen tensors are removed too. They can differ from the base by rounding, but should equal it.

    Args:
        checkpoint (dict): A checkpoint that is about to be saved, with ``state_dict``, ``meta`` and perhaps
            ``ema_state_dict``.
        backbones (dict[str, FrozenBackbone]): The model's backbones by name.
        bases (dict[str, Fingerprint]): The fingerprints of the frozen tensors when they were loaded.

    Raises:
        FrozenWeightsError: a frozen tensor has changed; no base would fit the delta.
    """
    records = {}
    for name, backbone in backbones.items():
        now = fingerprint(backbone.frozen_tensors())
        changed = bases[name].find_changes(now)
        if changed:
            raise FrozenWeightsError(
                f'no delta can be saved: frozen tensors of {name} changed since they were loaded from '
                f'{backbone.frozen_source}:' + listed('changed', changed)
            )
        source = _to_absolute_path(backbone.frozen_source)
        records[name] = Base(source, backbone.frozen_prefix, now.digests, backbone.tuning_settings)
    meta = dict(checkpoint.get('meta', {}).get('dataset_meta') or {})
    for part, lead in _STATES.items():
        if part in checkpoint:
            checkpoint[part] = _remove_base(checkpoint[part], lead, records, meta)


def drop_training_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint without what only resuming needs: optimizer, schedulers, EMA, message hub, random states."""
    return {key: value for key, value in checkpoint.items() if key not in _TRAINING_STATE}


def _to_absolute_path(source: str | None) -> str | None:
    """Make the path of an existing file absolute; other sources do not change."""
    return str(Path(source).resolve()) if source and os.path.isfile(source) else source  # noqa: PTH113 – accepts any text


def _remove_base(
    state: Mapping[str, Tensor], lead: str, records: Mapping[str, Base], meta: Mapping[str, Any]
) -> 'OrderedDict[str, Tensor]':
    out = {lead + (f'{name}.{key}' if name else key) for name, record in records.items() for key in record.frozen}
    kept = OrderedDict((name, _copy_small_view(tensor)) for name, tensor in state.items() if name not in out)
    # the averaged model is a child module, so its record has the child's prefix
    inner = {name[len(lead) :]: tensor for name, tensor in kept.items() if name.startswith(lead)}
    kept[lead + RECORD] = DeltaRecord(records, fingerprint(inner).digests, meta).to_tensor()
    if hasattr(state, '_metadata'):
        kept._metadata = state._metadata  # type: ignore[attr-defined]
    return kept


def _copy_small_view(tensor: Tensor) -> Tensor:
    """Copy a tensor that is a small part of a larger storage, because torch would write the whole storage."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > 2 * tensor.nbytes + 64 else tensor
