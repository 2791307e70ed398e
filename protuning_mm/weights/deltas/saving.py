"""Making a delta of a whole checkpoint: what differs from the base stays, with a record of what was left out."""

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

# mmengine's state dicts of models in a checkpoint, and how the model's names begin there
_STATES = {'state_dict': '', 'ema_state_dict': 'module.'}
# what training goes on from, and inference does not need
_OF_TRAINING = ('optimizer', 'param_schedulers', 'ema_state_dict', 'message_hub', 'resume_state')


def make_delta(
    checkpoint: dict[str, Any], backbones: Mapping[str, FrozenBackbone], bases: Mapping[str, Fingerprint]
) -> None:
    """Take the base out of a checkpoint, in place.

    EMA's averages of frozen tensors are taken out too: where the average is not computed exactly, they differ from
    the base by rounding, and the base is what was meant.

    Args:
        checkpoint (dict): As the runner is about to save it: ``state_dict``, perhaps ``ema_state_dict``, ``meta``.
        backbones (dict[str, FrozenBackbone]): The model's backbones by name.
        bases (dict[str, Fingerprint]): What their frozen tensors were when they were filled.

    Raises:
        FrozenWeightsError: a frozen tensor is not what it was; a delta of it would fit no base.
    """
    records = {}
    for name, backbone in backbones.items():
        now = fingerprint(backbone.frozen_tensors())
        moved = bases[name].moved(now)
        if moved:
            raise FrozenWeightsError(
                f'no delta can be saved: frozen tensors of {name} changed since they were loaded from '
                f'{backbone.frozen_source}:' + listed('changed', moved)
            )
        source = _lasting(backbone.frozen_source)
        records[name] = Base(source, backbone.frozen_prefix, now.digests, backbone.tuning_settings)
    meta = dict(checkpoint.get('meta', {}).get('dataset_meta') or {})
    for part, lead in _STATES.items():
        if part in checkpoint:
            checkpoint[part] = _without_base(checkpoint[part], lead, records, meta)


def inference_form(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint without what only training needs: optimizer, schedulers, EMA's other half, logs, random states."""
    return {key: value for key, value in checkpoint.items() if key not in _OF_TRAINING}


def _lasting(source: str | None) -> str | None:
    """A file by its whole path, which holds in other folders too."""
    return str(Path(source).resolve()) if source and os.path.isfile(source) else source  # noqa: PTH113 – of any text


def _without_base(
    state: Mapping[str, Tensor], lead: str, records: Mapping[str, Base], meta: Mapping[str, Any]
) -> 'OrderedDict[str, Tensor]':
    out = {lead + (f'{name}.{key}' if name else key) for name, record in records.items() for key in record.frozen}
    kept = OrderedDict((name, _alone(tensor)) for name, tensor in state.items() if name not in out)
    # an averaged model is a child of its own, and its record stands where it looks for it
    inner = {name[len(lead) :]: tensor for name, tensor in kept.items() if name.startswith(lead)}
    kept[lead + RECORD] = DeltaRecord(records, fingerprint(inner).digests, meta).to_tensor()
    if hasattr(state, '_metadata'):
        kept._metadata = state._metadata  # type: ignore[attr-defined]
    return kept


def _alone(tensor: Tensor) -> Tensor:
    """The tensor; a copy where it is a small part of a larger storage, which would be written whole."""
    return tensor.clone() if tensor.untyped_storage().nbytes() > 2 * tensor.nbytes + 64 else tensor
