"""Support for ``--cfg-options model.backbone.tuning.type=lora`` with any tuning in the config."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config


def with_whole_tunings(cfg: Config, options: Mapping[str, Any]) -> dict[str, Any]:
    """Make an option that names another tuning replace the config's tuning with all its arguments.

    mmengine would merge ``tuning.type=lora`` into the config's tuning and keep the arguments of that, and it would
    reject ``tuning.rank=8`` if the config gives the tuning as a string.

    Args:
        cfg (Config): The config to which the options will be applied.
        options (Mapping): Dotted keys and values, as in ``--cfg-options``.

    Returns:
        dict: Options for ``cfg.merge_from_dict``, with complete tunings before their arguments.
    """
    whole: dict[str, Any] = {}
    rest = dict(options)
    for key, value in options.items():
        path = key.removesuffix('.type')
        if _is_tuning(path) and isinstance(value, str):
            current = _at(cfg, path)
            if key == path or _name(current) != value:
                whole[path] = _replacing(current, value)
                del rest[key]
    for key in rest:
        path = key.rpartition('.')[0]
        current = _at(cfg, path)
        if _is_tuning(path) and isinstance(current, str) and path not in whole:
            whole[path] = _replacing(current, current)
    return whole | rest


def _is_tuning(path: str) -> bool:
    return path.rpartition('.')[2] == 'tuning'


def _at(cfg: Any, path: str) -> Any:
    """Return the value at a dotted key; None if there is none."""
    current = cfg
    for part in path.split('.'):
        if isinstance(current, list | tuple) and part.isdigit() and int(part) < len(current):
            current = current[int(part)]
        else:
            current = current.get(part) if isinstance(current, Mapping | Config) else None
    return current


def _name(tuning: Any) -> Any:
    return tuning.get('type') if isinstance(tuning, Mapping) else tuning


def _replacing(current: Any, name: str) -> dict[str, Any]:
    return dict(type=name) if current is None else dict(type=name, _delete_=True)
