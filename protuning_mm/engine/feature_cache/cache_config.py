"""The config key ``cache_features``."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_mm.engine.errors import ConfigError

_HOOK = 'protuning_mm.FeatureCacheHook'
_SETTINGS = ('folder', 'draws', 'max_gb')


def cache_features(cfg: Config, value: Any) -> Config:
    """Return a copy of a config that trains on stored features.

    The training set is wrapped in ``CachedSamples`` (inside ``RepeatDataset``), and ``FeatureCacheHook`` is added.

    Args:
        cfg (Config): A config.
        value (bool | str | dict): True, the folder of the features, or arguments of ``FeatureCacheHook``. False changes
            nothing.

    Raises:
        ConfigError: the value is none of these, or the config has no training set.
    """
    content = copy.deepcopy(cfg.to_dict())
    if value is not False:
        settings = _read(value)
        loader = content.get('train_dataloader')
        if not loader:
            raise ConfigError(f'cache_features={value!r}: {cfg.filename or "the config"} has no train_dataloader')
        holder = loader
        while str(holder['dataset'].get('type')).rpartition('.')[2] == 'RepeatDataset':
            holder = holder['dataset']
        holder['dataset'] = dict(type='CachedSamples', dataset=holder['dataset'])
        content['custom_hooks'] = [*(content.get('custom_hooks') or []), dict(type=_HOOK, **settings)]
    return Config(content, filename=cfg.filename if cfg.filename and Path(cfg.filename).is_file() else None)


def _read(value: Any) -> dict[str, Any]:
    if value is True:
        return {}
    if isinstance(value, str):
        return dict(folder=value)
    unknown = [key for key in value if key not in _SETTINGS] if isinstance(value, Mapping) else None
    if unknown is None or unknown:
        raise ConfigError(
            f'cache_features={value!r}: write True, a folder, or dict() with {", ".join(_SETTINGS)}'
            + (f', not {", ".join(unknown)}' if unknown else '')
        )
    return dict(value)
