"""Builds tunings from a config."""

import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from protuning_mm.registry import TUNINGS
from protuning_mm.tunings.base import Tuning, TuningError

# Keys that mmengine may leave in a config dict: _scope_ in inherited ones, _delete_ if there was nothing to replace.
_MARKS = ('_scope_', '_delete_')
TuningCfg = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]


def build_tunings(cfg: TuningCfg) -> list[Tuning]:
    """Build one tuning or several.

    Args:
        cfg (str | dict | list): A name, a dict with a ``type``, or a list of these.

    Raises:
        TuningError: a name or an argument is unknown, or the tunings cannot be combined.
    """
    if not isinstance(cfg, str | Mapping | Sequence):
        raise TuningError(f'tuning={cfg!r}: must be a name, a dict with a type, or a list of these')
    items = [cfg] if isinstance(cfg, str | Mapping) else list(cfg)
    tunings = []
    for item in items:
        settings = dict(type=item) if isinstance(item, str) else dict(item)
        for key in _MARKS:
            settings.pop(key, None)
        name = settings.pop('type', None)
        cls = TUNINGS.get(name) if isinstance(name, str) else None
        if cls is None:
            known = ', '.join(sorted(TUNINGS.module_dict))
            raise TuningError(f'tuning={item!r}: type must be one of {known}, but got {name!r}')
        accepted = _all_settings(name, cls, {})
        unknown = [key for key in settings if key not in accepted] if _names_all_arguments(cls) else []
        if unknown:
            others = ', '.join(list(accepted)[1:]) or 'nothing'
            raise TuningError(
                f'tuning={item!r}: {name} takes no {", ".join(unknown)}, but {others}. '
                'To override the tuning of an inherited config by another one, replace it completely: '
                f'model.backbone.tuning={name} on the command line, tuning=dict(_delete_=True, type={name!r}) in a file'
            )
        try:
            tuning = cls(**settings)
        except TypeError as error:
            raise TuningError(f'tuning={item!r}: {error}') from error
        tuning.settings = _all_settings(name, cls, settings)
        tunings.append(tuning)
    names = [tuning.name for tuning in tunings]
    exclusive = [tuning.name for tuning in tunings if not tuning.combines]
    if len(tunings) > 1 and (exclusive or len(set(names)) < len(names)):
        why = f'{exclusive[0]} must be the only tuning' if exclusive else 'each may be listed only once'
        raise TuningError(f'tunings {names} cannot be combined: {why}')
    return tunings


def complete_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults of the settings that a stored tuning lacks; an unknown tuning is returned as it is.

    A version that introduces a setting gives it the default with which a tuning computes what it computed before.
    """
    name = str(stored.get('type'))
    cls = TUNINGS.get(name)
    return dict(stored) if cls is None else {**_all_settings(name, cls, {}), **stored}


def _names_all_arguments(cls: type[Tuning]) -> bool:
    """Return whether a tuning accepts no arguments besides those that it or its block names."""
    kinds = [parameter.kind for parameter in inspect.signature(cls).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD not in kinds or cls.passes_to is not None


def _all_settings(name: str | None, cls: type[Tuning], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given arguments and the defaults of all others, in JSON types, so that equal tunings compare equal."""
    settings = _with_defaults(cls, given)
    if cls.passes_to is not None:
        settings |= _with_defaults(cls.passes_to, {k: v for k, v in given.items() if k not in settings}, skipped=1)
    return {'type': name, **json.loads(json.dumps(settings, default=str))}


def _with_defaults(cls: Any, given: Mapping[str, Any], skipped: int = 0) -> dict[str, Any]:
    parameters = list(inspect.signature(cls).parameters.values())[skipped:]
    return {p.name: given.get(p.name, p.default) for p in parameters if p.kind is not p.VAR_KEYWORD}
