"""One spelling for another tuning, whatever the config has: ``model.backbone.tuning.type=lora``."""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config


def with_whole_tunings(cfg: Config, options: Mapping[str, Any]) -> dict[str, Any]:
    """Let an option that names another tuning replace the config's, whose arguments mean nothing to the new one.

    mmengine merges ``tuning.type=lora`` into what is there, and so keeps the arguments of the tuning before; and it
    refuses ``tuning.rank=8`` where the config has a bare name.

    Args:
        cfg (Config): The config that the options are meant for.
        options (Mapping): Dotted keys and values, as ``--cfg-options`` has them.

    Returns:
        dict: Options for ``cfg.merge_from_dict``; whole tunings stand before their arguments.
    """
    whole: dict[str, Any] = {}
    rest = dict(options)
    for key, value in options.items():
        path = key.removesuffix('.type')
        if _is_tuning(path) and isinstance(value, str):
            here = _at(cfg, path)
            if key == path or _name(here) != value:
                whole[path] = _replacing(here, value)
                del rest[key]
    for key in rest:
        path = key.rpartition('.')[0]
        here = _at(cfg, path)
        if _is_tuning(path) and isinstance(here, str) and path not in whole:
            whole[path] = _replacing(here, here)
    return whole | rest


def _is_tuning(path: str) -> bool:
    return path.rpartition('.')[2] == 'tuning'


def _at(cfg: Any, path: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    here = cfg
    for part in path.split('.'):
        if isinstance(here, list | tuple) and part.isdigit() and int(part) < len(here):
            here = here[int(part)]
        else:
            here = here.get(part) if isinstance(here, Mapping | Config) else None
    return here


def _name(tuning: Any) -> Any:
    return tuning.get('type') if isinstance(tuning, Mapping) else tuning


def _replacing(here: Any, name: str) -> dict[str, Any]:
    return dict(type=name) if here is None else dict(type=name, _delete_=True)
