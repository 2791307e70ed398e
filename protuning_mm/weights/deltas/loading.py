"""Completing a delta when a model loads it: what it leaves out is the base, and the base is verified first."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.weights.deltas.base import FrozenBackbone, fetch_base
from protuning_mm.weights.deltas.record import RECORD, Base, DeltaRecord
from protuning_mm.weights.errors import CheckpointError
from protuning_mm.weights.fingerprint import fingerprint
from protuning_mm.weights.listing import listed

# Counters that nothing reads in eval mode; files older than torch 0.4.1 lack them.
_COUNTER = 'num_batches_tracked'


def complete(model: nn.Module, backbones: Mapping[str, FrozenBackbone], state: dict[str, Tensor], prefix: str) -> None:
    """Make a delta that is about to be loaded a whole state, in place; a state without a record stays as it is.

    The resident frozen tensors are compared with the base's fingerprint. Equal: they stay. Different: the base is
    fetched, verified and copied into the model.

    Args:
        model (nn.Module): The model that loads.
        backbones (dict[str, FrozenBackbone]): Its backbones by name.
        state (dict[str, Tensor]): What it loads; the names begin with ``prefix``.
        prefix (str): The model's own prefix.

    Raises:
        CheckpointError: the delta is damaged, it does not fit the model, or its base is not to be had. Nothing of the
            model has changed then.
    """
    packed = state.pop(prefix + RECORD, None)
    if packed is None:
        return
    record = DeltaRecord.from_tensor(packed)
    delta = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
    record.check(delta)
    here = model.state_dict()
    _check_backbones(backbones, record)
    _check_names(backbones, record, delta, here)
    wanted = {name: _base_tensors(backbone, record.bases[name]) for name, backbone in backbones.items()}
    for name, backbone in backbones.items():
        resident = backbone.frozen_tensors()
        with torch.no_grad():
            for key, tensor in wanted[name].items():
                resident[key].copy_(tensor)
        if wanted[name] or backbone.frozen_source is None:
            base = record.bases[name]
            backbone.frozen_source, backbone.frozen_prefix = base.source or 'the base of a delta', base.prefix
        lead = f'{prefix}{name}.' if name else prefix
        state.update({lead + key: tensor for key, tensor in resident.items()})


def _base_tensors(backbone: FrozenBackbone, base: Base) -> dict[str, Tensor]:
    """The base where it is not what the backbone holds already."""
    resident = fingerprint(backbone.frozen_tensors())
    return {} if resident.digests == base.frozen else fetch_base(backbone, base, resident)


def _check_backbones(backbones: Mapping[str, FrozenBackbone], record: DeltaRecord) -> None:
    if set(backbones) != set(record.bases):
        raise CheckpointError(
            f'this delta is for a model with tuned backbones at {sorted(record.bases)}, and this one has them at '
            f'{sorted(backbones)}'
        )
    for name, backbone in backbones.items():
        base = record.bases[name]
        if backbone.tuning_settings != base.tuning:
            raise CheckpointError(
                f'this delta was trained with another tuning of {name or "the backbone"}:\n  {_shown(base.tuning)} in '
                f'the delta (protuning_mm {record.version})\n  {_shown(backbone.tuning_settings)} in the config'
            )
        if set(base.frozen) != set(backbone.frozen_keys):
            raise CheckpointError(
                f'this delta was trained on {base}, and the frozen part of {name or "the backbone"} is another network '
                f'of {len(backbone.frozen_keys)} tensors:'
                + listed('only in the base', sorted(set(base.frozen) - backbone.frozen_keys))
                + listed('only here', sorted(backbone.frozen_keys - set(base.frozen)))
                + '\nIs the config of another depth or variant than the run that wrote the delta?'
            )


def _check_names(
    backbones: Mapping[str, FrozenBackbone], record: DeltaRecord, delta: Mapping[str, Tensor], here: Mapping[str, Any]
) -> None:
    frozen = {f'{name}.{key}' if name else key for name, each in backbones.items() for key in each.frozen_keys}
    missing = [n for n in here if n not in record.stored and n not in frozen and not n.endswith(_COUNTER)]
    unknown = [n for n in record.stored if n not in here]
    reshaped = [
        f'{n}: {tuple(t.shape)} in the delta, {tuple(here[n].shape)} here'
        for n, t in delta.items()
        if n in here and isinstance(here[n], Tensor) and here[n].shape != t.shape
    ]
    if missing or unknown or reshaped:
        raise CheckpointError(
            f'this delta does not fit the model; it was trained for {_classes(record.dataset_meta)}:'
            + listed('of the model that it lacks', missing)
            + listed('unknown to the model', unknown)
            + listed('of another shape', reshaped)
            + '\nUse the config that it was trained with; where the number of classes is the difference, start from it '
            'with load_from.'
        )


def _classes(meta: Mapping[str, Any]) -> str:
    classes = meta.get('classes')
    if not classes:
        return 'unknown classes'
    names = [str(name) for name in classes]
    return f'{len(names)} classes ({", ".join(names[:6])}{", …" if len(names) > 6 else ""})'


def _shown(tuning: list[dict[str, Any]]) -> str:
    return ' + '.join(f'{t["type"]}({", ".join(f"{k}={v!r}" for k, v in t.items() if k != "type")})' for t in tuning)
