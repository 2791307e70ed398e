"""Fetching the base that a delta was trained on: from where it may come, and only if it is the one."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor

from protuning_mm.weights.addresses import refused
from protuning_mm.weights.deltas.record import Base
from protuning_mm.weights.errors import CheckpointError, FrozenWeightsError
from protuning_mm.weights.fingerprint import Fingerprint, fingerprint

BASE_VARIABLE = 'PROTUNING_MM_BASE'


class FrozenBackbone(Protocol):
    """What loading and saving deltas asks of a backbone."""

    init_cfg: Any
    frozen_source: str | None
    frozen_prefix: str | None

    @property
    def frozen_keys(self) -> frozenset[str]: ...

    @property
    def tuning_settings(self) -> list[dict[str, Any]]: ...

    def frozen_tensors(self) -> dict[str, Tensor]: ...

    def read_base(self, source: str, prefix: str | None) -> Mapping[str, Tensor]: ...


def fetch_base(backbone: FrozenBackbone, base: Base, resident: Fingerprint) -> dict[str, Tensor]:
    """Find the base's tensors: where the user says, where the config says, where the delta says.

    Args:
        backbone (FrozenBackbone): The backbone that lacks them.
        base (Base): What the delta was trained on.
        resident (Fingerprint): What the backbone holds now, for the error.

    Returns:
        dict[str, Tensor]: The frozen tensors by the backbone's keys, verified bit for bit.

    Raises:
        CheckpointError: none of these places has that base; the error names each, and why not.
    """
    tried = []
    template = backbone.frozen_tensors()
    for source, prefix, whose in _places(backbone, base):
        refusal = None if whose is not None else refused(source)
        if refusal is not None:
            tried.append(f'{source} (named by the delta): {refusal}')
            continue
        label = f'{source} ({whose or "named by the delta"})'
        try:
            state = backbone.read_base(source, prefix)
        except (CheckpointError, FrozenWeightsError) as error:
            tried.append(f'{label}: {error}')
            continue
        found = {k: state[k].to(t.dtype) if k in state else t for k, t in template.items()}
        moved = base.fingerprint.moved(fingerprint(found))
        if not moved:
            return found
        tried.append(f'{label}: another network; {len(moved)} of its tensors differ, {moved[0]} among them')
    moved = base.fingerprint.moved(resident)
    raise CheckpointError(
        f'this delta was trained on {base}, and the backbone holds another (fingerprint {resident.total[:12]}; '
        f'{len(moved)} tensors differ, {moved[0]} among them). The right base was not found:\n  '
        + '\n  '.join(tried or ['the delta does not say where its base came from'])
        + f'\nName its file: model.backbone.init_cfg=dict(type="Pretrained", checkpoint=…), or {BASE_VARIABLE}=<path> '
        'in the environment.'
    )


def _places(backbone: FrozenBackbone, base: Base) -> Iterator[tuple[str, str | None, str | None]]:
    """Source, prefix, and who named it: the delta where that is None."""
    for path in filter(None, os.environ.get(BASE_VARIABLE, '').split(os.pathsep)):
        yield path, None, BASE_VARIABLE
    cfg = backbone.init_cfg
    configured = cfg.get('checkpoint') if isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained' else None
    if configured is not None and isinstance(cfg, Mapping):
        yield configured, cfg.get('prefix'), "the config's init_cfg"
    if base.source is not None and base.source != configured:
        yield base.source, base.prefix, None
