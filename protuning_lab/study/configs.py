"""Builds the full config of a cell, and the hash that ties a result to it."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError, did_you_mean
from protuning_lab.study.grid import Cell
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.tuning_options import with_whole_tunings

# top-level keys of a config that a run reads
_TOP = (
    'model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'env_cfg', 'randomness', 'default_scope', 'model_wrapper_cfg',
)  # fmt: skip
_TEST = ('test_dataloader', 'test_evaluator', 'test_cfg')


@dataclass(frozen=True)
class CellConfig:
    """The config of one cell.

    Args:
        cfg (Config): The full config.
        tests (dict[str, dict]): Test set -> its ``test_dataloader``, ``test_evaluator`` and ``test_cfg``.
        digest (str): A hash of ``cfg`` and ``tests``. A result with another hash belongs to another config.
    """

    cfg: Config
    tests: dict[str, dict[str, Any]]
    digest: str


class ConfigBuilder:
    """Builds the configs of a study's cells. Each config file is read once.

    Args:
        study (Study): The study.
        options (dict, optional): The settings of ``--cfg-options``, which override every cell's config.
    """

    def __init__(self, study: Study, options: Mapping[str, Any] | None = None) -> None:
        self.study = study
        self.options = dict(options or {})
        self._read: dict[Path, Config] = {}

    def build(self, cell: Cell) -> CellConfig:
        """Build the config of a cell.

        Raises:
            StudyError: an option's key is not in the config, two axes set a config, or a config cannot be read.
        """
        study = self.study
        cfg = self._base_config(cell)
        apply_options(cfg, study.options, 'options')
        for axis, name in cell.group.values:
            value = study.axes[axis][name]
            apply_options(cfg, value.options, f'axes.{axis}.{name}')
            if cell.setting is not None and value.settings:
                apply_options(cfg, value.settings[cell.setting], f'axes.{axis}.{name}.settings.{cell.setting}')
        if cell.learning_rate is not None and study.learning_rate is not None:
            apply_options(cfg, {study.learning_rate.key: cell.learning_rate}, 'learning_rate.key')
            apply_options(cfg, study.learning_rate.options if cell.search else {}, 'learning_rate.options')
        apply_options(cfg, self.options, '--cfg-options')
        cfg.randomness = dict(cfg.get('randomness') or {}) | dict(seed=cell.seed)
        cfg.launcher, cfg.resume = 'none', False
        cfg.pop('work_dir', None)
        tests = self._tests(cfg)
        return CellConfig(cfg, tests, _digest([cfg.to_dict(), tests, study.validate_at]))

    def _base_config(self, cell: Cell) -> Config:
        named = {axis: self.study.axes[axis][name].config for axis, name in cell.group.values}
        own = {axis: path for axis, path in named.items() if path is not None}
        if len(own) > 1:
            raise StudyError(f'{cell.group.name}: config is set by {" and by ".join(own)}; only one axis may set it')
        path = next(iter(own.values()), self.study.config)
        if path is None:
            raise StudyError(f"{cell.group.name}: no config: write config='<path relative to this file>' in the study")
        if path not in self._read:
            try:
                self._read[path] = read_config(path)
            except ConfigError as error:
                raise StudyError(str(error)) from error
        return copy.deepcopy(self._read[path])

    def _tests(self, cfg: Config) -> dict[str, dict[str, Any]]:
        if cfg.get('test_dataloader') is None:
            return {}
        found = {}
        for name, options in self.study.test.items():
            changed = Config(copy.deepcopy({key: cfg.get(key) for key in _TEST}))
            apply_options(changed, options, f'test.{name}')
            found[name] = changed.to_dict()
        return found


def apply_options(cfg: Config, options: Mapping[str, Any], where: str) -> None:
    """Override settings of a config as ``--cfg-options`` does, but refuse keys that do not exist.

    The last part of a key may be new, since a config may leave a setting at its default. The parts before must exist.

    Args:
        cfg (Config): Changed in place.
        options (Mapping): Dotted keys and values.
        where (str): Where the options are written, for error messages.

    Raises:
        StudyError: a key does not exist, or a value does not fit.
    """
    for key, value in options.items():
        _check_key(cfg, key, where)
        try:
            cfg.merge_from_dict(with_whole_tunings(cfg, {key: copy.deepcopy(value)}))
        except (TypeError, KeyError, IndexError) as error:
            raise StudyError(f'{where}: {key!r} cannot be applied to the config: {error}') from None


def _check_key(cfg: Config, key: str, where: str) -> None:
    *parents, last = key.split('.')
    value: Any = cfg
    if parents and parents[0] in _TOP and parents[0] not in cfg:
        return
    for i, part in enumerate(parents):
        known = _keys(value)
        if part not in known:
            at = '.'.join(parents[:i]) or 'the config'
            if part == 'tuning' and i == len(parents) - 1 and _is_tuned(value):
                return  # the config leaves the tuning at its default
            raise StudyError(
                f'{where}: {key!r}: {at} has no {part!r}; it has {", ".join(known)}{did_you_mean(part, known)}'
            )
        value = value[int(part)] if isinstance(value, list | tuple) else value[part]
    if not parents and last not in cfg and last not in _TOP:
        raise StudyError(f'{where}: {key!r}: the config has no such key{did_you_mean(last, {*cfg.keys(), *_TOP})}')
    if parents and not isinstance(value, Mapping | list | tuple) and parents[-1] != 'tuning':
        raise StudyError(f'{where}: {key!r}: {".".join(parents)} is {value!r}, not a dict')


def _is_tuned(backbone: Any) -> bool:
    kind = str(backbone.get('type')) if isinstance(backbone, Mapping) else ''
    return kind.rpartition('.')[2] in ('ProTunedResNet', 'TunedBackbone')


def _keys(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(i) for i in range(len(value))]
    return [str(key) for key in value] if isinstance(value, Mapping | Config) else []


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_qualified_name).encode()).hexdigest()[:32]


def _qualified_name(value: Any) -> str:
    """Name classes and functions by module and name, because their repr may contain a memory address."""
    name = getattr(value, '__qualname__', None)
    return f'{value.__module__}.{name}' if name else repr(value)
