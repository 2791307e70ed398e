"""Keys of a config that stand for changes in many places."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_mm.data.data_folder import NAME
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.feature_cache.cache_config import cache_features
from protuning_mm.engine.image_size import set_image_side
from protuning_mm.engine.tune_config import tune_config
from protuning_mm.engine.use_data import use_data

SHORTCUTS = ('data', 'data_repeats', 'image_side', 'tune', 'cache_features')


def lay_shortcuts(cfg: Config) -> Config:
    """Apply the short keys of a config.

    - ``data='folder'`` trains and evaluates on a folder of data (:func:`use_data`). If the config's own data sets lie
      in that folder, ``data`` is a variable of the config, and nothing is changed.
    - ``data_repeats=4`` makes an epoch of four passes over the training images, for schedules that count epochs.
    - ``image_side=640`` sets the longer side of the training images (:func:`set_image_side`).
    - ``tune='pro'`` freezes the backbone and tunes it (:func:`tune_config`).
    - ``cache_features=True`` computes the frozen features of the training images once (:func:`cache_features`).

    Returns:
        Config: A config without these keys; a config that has none of them is returned as it is.

    Raises:
        ConfigError: a value does not fit the config.
        DataError: ``data`` is no folder that ``protuning data convert`` has written.
    """
    if not cfg.get('model'):  # a part of a config, or a file of other settings
        return cfg
    if isinstance(cfg.get('data'), str) and not _is_variable(cfg, cfg.data):
        cfg = use_data(cfg, cfg.data)
    if cfg.get('data_repeats') is not None:
        cfg = _repeat_data(_without(cfg, 'data_repeats'), cfg.data_repeats)
    if cfg.get('image_side') is not None:
        cfg = set_image_side(_without(cfg, 'image_side'), cfg.image_side)
    if cfg.get('tune') is not None:
        cfg = tune_config(_without(cfg, 'tune'), cfg.tune)
    if cfg.get('cache_features') is not None:
        cfg = lay_cached_features(_without(cfg, 'cache_features'), cfg.cache_features)
    return cfg


def lay_cached_features(cfg: Config, value: Any) -> Config:
    """Return a copy of a config that trains on stored features; see :func:`cache_features`.

    Raises:
        ConfigError: the value does not fit, or a hook exchanges the training pipeline during the run.
    """
    if value is not False and switches_pipeline(cfg):
        raise ConfigError('cache_features: PipelineSwitchHook exchanges the pipeline in the run: remove the hook')
    return cache_features(cfg, value)


def _is_variable(cfg: Config, data: str) -> bool:
    """Return whether ``data`` is no converted folder, and a path in the config's data loaders begins with it."""
    if (Path(data).expanduser() / NAME).is_file():
        return False

    def begins(node: Any) -> bool:
        if isinstance(node, dict):
            return any(begins(value) for value in node.values())
        if isinstance(node, list | tuple):
            return any(begins(value) for value in node)
        return isinstance(node, str) and (node == data or node.startswith(f'{data.rstrip("/")}/'))

    return any(begins(value) for key, value in cfg.items() if key.endswith(('_dataloader', '_evaluator')))


def _without(cfg: Config, key: str) -> Config:
    content = cfg.to_dict()
    del content[key]
    return Config(content, filename=cfg.filename)


def _repeat_data(cfg: Config, times: int) -> Config:
    if not isinstance(times, int) or times < 1:
        raise ConfigError(f'data_repeats={times!r} must be a whole number, 1 or more')
    loader = cfg.get('train_dataloader')
    if not loader:
        raise ConfigError(f'data_repeats={times}: {cfg.filename or "the config"} has no train_dataloader')
    if times > 1 and switches_pipeline(cfg):
        raise ConfigError(
            f'data_repeats={times}: PipelineSwitchHook exchanges the pipeline of the data set, and a repeated one has '
            'none: raise train_cfg.max_epochs in its place'
        )
    # the hooks of YOLOX address the data set that mixes images
    holder = loader['dataset'] if str(loader['dataset'].get('type')).endswith('MultiImageMixDataset') else loader
    holder['dataset'] = dict(type='RepeatDataset', times=times, dataset=holder['dataset'])
    return cfg


def switches_pipeline(cfg: Config) -> bool:
    """Return whether a hook of the config exchanges the training pipeline during a run."""
    return any(str(hook.get('type')).endswith('PipelineSwitchHook') for hook in cfg.get('custom_hooks') or ())
