"""Fetching the base of a delta: from allowed sources only, and verified by its fingerprint."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from torch import Tensor

from protuning_mm.weights.addresses import explain_refusal
from protuning_mm.weights.deltas.record import Base
from protuning_mm.weights.errors import CheckpointError, FrozenWeightsError, OtherBaseError
from protuning_mm.weights.fingerprint import Fingerprint, fingerprint

BASE_VARIABLE = 'PROTUNING_MM_BASE'
_IGNORE_NAMED: ContextVar[bool] = ContextVar('ignore_named', default=False)


@contextmanager
def ignore_sources_of_deltas() -> Iterator[None]:
    """In this thread, read no base from a source that a delta names, be it a file of this machine."""
    token = _IGNORE_NAMED.set(True)
    try:
        yield
    finally:
        _IGNORE_NAMED.reset(token)


class FrozenBackbone(Protocol):
    """The attributes of a backbone that loading and saving deltas needs."""

    init_cfg: Any
    frozen_source: str | None
    frozen_prefix: str | None

    @property
    def frozen_keys(self) -> frozenset[str]: ...

    @property
    def tuning_settings(self) -> list[dict[str, Any]]: ...

    def complete_settings(self, stored: list[dict[str, Any]]) -> list[dict[str, Any]]: ...

    def frozen_tensors(self) -> dict[str, Tensor]: ...

    def read_base(self, source: str, prefix: str | None) -> Mapping[str, Tensor]: ...


def fetch_base(backbone: FrozenBackbone, base: Base, resident: Fingerprint) -> dict[str, Tensor]:
    """Find the tensors of a base in the sources that the environment, the config and the delta name, in this order.

    Args:
        backbone (FrozenBackbone): The backbone that needs the tensors.
        base (Base): The base of the delta.
        resident (Fingerprint): The fingerprint of the backbone's present tensors, for the error.

    Returns:
        dict[str, Tensor]: The frozen tensors by the backbone's keys, verified bit for bit.

    Raises:
        OtherBaseError: no source has this base; the error names each source and the reason.
    """
    tried = []
    template = backbone.frozen_tensors()
    for source, prefix, origin in _list_sources(backbone, base):
        refusal = None if origin is not None else _explain_refusal(source)
        if refusal is not None:
            tried.append(f'{source} (named by the delta): {refusal}')
            continue
        label = f'{source} ({origin or "named by the delta"})'
        try:
            state = backbone.read_base(source, prefix)
        except (CheckpointError, FrozenWeightsError) as error:
            tried.append(f'{label}: {error}')
            continue
        found = {k: state[k].to(t.dtype) if k in state else t for k, t in template.items()}
        changed = base.fingerprint.find_changes(fingerprint(found))
        if not changed:
            return found
        tried.append(f'{label}: another network; {len(changed)} of its tensors differ, such as {changed[0]}')
    changed = base.fingerprint.find_changes(resident)
    raise OtherBaseError(
        f'this delta was trained on {base}, but the backbone holds other tensors (fingerprint {resident.total[:12]}; '
        f'{len(changed)} tensors differ, such as {changed[0]}). The right base was not found:\n  '
        + '\n  '.join(tried or ['the delta does not say where its base came from'])
        + '\nName the file of the base: model.backbone.init_cfg=dict(type="Pretrained", checkpoint=…) in the config, '
        f'or {BASE_VARIABLE}=<path> in the environment.'
    )


def _explain_refusal(source: str) -> str | None:
    return 'not read: this process ignores the sources of deltas' if _IGNORE_NAMED.get() else explain_refusal(source)


def _list_sources(backbone: FrozenBackbone, base: Base) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield source, prefix, and where the source is named: None for the delta, which is not trusted."""
    for path in filter(None, os.environ.get(BASE_VARIABLE, '').split(os.pathsep)):
        yield path, None, BASE_VARIABLE
    cfg = backbone.init_cfg
    configured = cfg.get('checkpoint') if isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained' else None
    if configured is not None and isinstance(cfg, Mapping):
        yield configured, cfg.get('prefix'), "the config's init_cfg"
    if base.source is not None and base.source != configured:
        yield base.source, base.prefix, None
