"""Completing a delta when a model loads it: the tensors of its base are verified and added."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.weights.deltas.base import FrozenBackbone, fetch_base
from protuning_mm.weights.deltas.record import RECORD, Base, DeltaRecord
from protuning_mm.weights.errors import CheckpointError, OtherBaseError
from protuning_mm.weights.fingerprint import fingerprint
from protuning_mm.weights.listing import listed

# Counters that are not used in eval mode; files from before torch 0.4.1 do not have them.
_COUNTER = 'num_batches_tracked'


def complete_delta(
    model: nn.Module, backbones: Mapping[str, FrozenBackbone], state: dict[str, Tensor], prefix: str
) -> None:
    """Add the base to a delta that a model is about to load, in place; a state dict without a record does not change.

    The model's frozen tensors are compared with the fingerprint of the base. If they are equal, they are kept. If not,
    the base is fetched, verified and copied into the model.

    Args:
        model (nn.Module): The model that loads the delta.
        backbones (dict[str, FrozenBackbone]): The model's backbones by name.
        state (dict[str, Tensor]): The state dict; its names begin with ``prefix``.
        prefix (str): The prefix of the model's names.

    Raises:
        CheckpointError: the delta is damaged or does not fit the model, or its base cannot be found. The model is
            unchanged.
    """
    packed = state.pop(prefix + RECORD, None)
    if packed is None:
        return
    record = DeltaRecord.from_tensor(packed)
    delta = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
    record.check(delta)
    own = model.state_dict()
    _check_backbones(backbones, record)
    aliases = _find_aliases(delta, own)
    _check_names(backbones, record, {name: tensor for name, tensor in delta.items() if name not in aliases}, own)
    fetched = {name: _fetch_if_different(backbone, record.bases[name]) for name, backbone in backbones.items()}
    for name, backbone in backbones.items():
        resident = backbone.frozen_tensors()
        with torch.no_grad():
            for key, tensor in fetched[name].items():
                resident[key].copy_(tensor)
        if fetched[name] or backbone.frozen_source is None:
            base = record.bases[name]
            backbone.frozen_source, backbone.frozen_prefix = base.source or 'the base of a delta', base.prefix
        lead = f'{prefix}{name}.' if name else prefix
        state.update({lead + key: tensor for key, tensor in resident.items()})
    for name in aliases:
        del state[prefix + name]


def _find_aliases(delta: Mapping[str, Tensor], own: Mapping[str, Any]) -> set[str]:
    """Return the names that the model does not know, of tensors that it has under the name of another child.

    A model may take over a part of another child in its first training step: DDQ's decoder gets branches of the head.
    """
    known: dict[str, list[Tensor]] = {}
    for name, tensor in delta.items():
        if name in own:
            known.setdefault(name.partition('.')[2], []).append(tensor)
    unknown = [name for name in delta if name not in own]
    return {n for n in unknown if any(torch.equal(delta[n], each) for each in known.get(n.partition('.')[2], ()))}


def _fetch_if_different(backbone: FrozenBackbone, base: Base) -> dict[str, Tensor]:
    """Return the tensors of a base; an empty dict if the backbone already holds them."""
    resident = fingerprint(backbone.frozen_tensors())
    return {} if resident.digests == base.frozen else fetch_base(backbone, base, resident)


def _check_backbones(backbones: Mapping[str, FrozenBackbone], record: DeltaRecord) -> None:
    if set(backbones) != set(record.bases):
        raise CheckpointError(
            f'this delta is for a model with tuned backbones at {sorted(record.bases)}, but this model has them at '
            f'{sorted(backbones)}'
        )
    for name, backbone in backbones.items():
        base = record.bases[name]
        if backbone.tuning_settings != backbone.complete_settings(base.tuning):
            raise CheckpointError(
                f'this delta was trained with another tuning of {name or "the backbone"}:\n'
                f'  {_format_tuning(base.tuning)} in the delta (protuning_mm {record.version})\n'
                f'  {_format_tuning(backbone.tuning_settings)} in the config'
            )
        if set(base.frozen) != set(backbone.frozen_keys):
            raise OtherBaseError(
                f'this delta was trained on {base}, but the frozen part of {name or "the backbone"} is another network '
                f'of {len(backbone.frozen_keys)} tensors:'
                + listed('only in the base', sorted(set(base.frozen) - backbone.frozen_keys))
                + listed('only in the model', sorted(backbone.frozen_keys - set(base.frozen)))
                + '\nDoes the config have another depth or variant than the run that wrote the delta?'
            )


def _check_names(
    backbones: Mapping[str, FrozenBackbone], record: DeltaRecord, delta: Mapping[str, Tensor], own: Mapping[str, Any]
) -> None:
    frozen = {f'{name}.{key}' if name else key for name, each in backbones.items() for key in each.frozen_keys}
    missing = [n for n in own if n not in record.stored and n not in frozen and not n.endswith(_COUNTER)]
    unknown = [n for n in delta if n not in own]
    reshaped = [
        f'{n}: {tuple(t.shape)} in the delta, {tuple(own[n].shape)} in the model'
        for n, t in delta.items()
        if n in own and isinstance(own[n], Tensor) and own[n].shape != t.shape
    ]
    if missing or unknown or reshaped:
        raise CheckpointError(
            f'this delta does not fit the model; it was trained for {_describe_classes(record.dataset_meta)}:'
            + listed('missing in the delta', missing)
            + listed('unknown to the model', unknown)
            + listed('of another shape', reshaped)
            + '\nUse the config that the delta was trained with. If only the number of classes differs, start from the '
            'delta with load_from.'
        )


def _describe_classes(meta: Mapping[str, Any]) -> str:
    classes = meta.get('classes')
    if not classes:
        return 'unknown classes'
    names = [str(name) for name in classes]
    return f'{len(names)} classes ({", ".join(names[:6])}{", …" if len(names) > 6 else ""})'


def _format_tuning(tuning: list[dict[str, Any]]) -> str:
    return ' + '.join(f'{t["type"]}({", ".join(f"{k}={v!r}" for k, v in t.items() if k != "type")})' for t in tuning)
