"""From what a config says of tunings to the tunings."""

from collections.abc import Mapping, Sequence
from typing import Any

from protuning_mm.registry import TUNINGS
from protuning_mm.tunings.base import Tuning, TuningError

TuningCfg = str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]


def build_tunings(cfg: TuningCfg) -> list[Tuning]:
    """Build one tuning or several.

    Args:
        cfg (str | dict | list): A name, a config, or a list of these.

    Raises:
        TuningError: a name is unknown, an argument is, or the tunings do not combine.
    """
    items = [cfg] if isinstance(cfg, str | Mapping) else list(cfg)
    tunings = []
    for item in items:
        settings = dict(type=item) if isinstance(item, str) else dict(item)
        name = settings.pop('type', None)
        cls = TUNINGS.get(name) if isinstance(name, str) else None
        if cls is None:
            known = ', '.join(sorted(TUNINGS.module_dict))
            raise TuningError(f'tuning={item!r}: type must be one of {known}, but got {name!r}')
        try:
            tunings.append(cls(**settings))
        except TypeError as error:
            raise TuningError(f'tuning={item!r}: {error}') from error
    names = [tuning.name for tuning in tunings]
    alone = [tuning.name for tuning in tunings if not tuning.combines]
    if len(tunings) > 1 and (alone or len(set(names)) < len(names)):
        why = f'{alone[0]} stands alone' if alone else 'each may stand there once'
        raise TuningError(f'tunings {names} do not combine: {why}')
    return tunings
