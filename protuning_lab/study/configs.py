"""From a cell to the whole config of its run, and the hash that a result is known by."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError, meant
from protuning_lab.study.grid import Cell
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.tuning_options import with_whole_tunings

# what a run reads at a config's top
_TOP = (
    'model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'env_cfg', 'randomness', 'default_scope', 'model_wrapper_cfg',
)  # fmt: skip
_TEST = ('test_dataloader', 'test_evaluator', 'test_cfg')


@dataclass(frozen=True)
class CellConfig:
    """What one run needs to know.

    Args:
        cfg (Config): The whole config.
        tests (dict[str, dict]): For each test set its ``test_dataloader``, ``test_evaluator`` and ``test_cfg``.
        digest (str): A hash over all of it: a result with another one is not this run's.
    """

    cfg: Config
    tests: dict[str, dict[str, Any]]
    digest: str


class Configs:
    """The configs of a study's cells. Each file is read once.

    Args:
        study (Study): The study.
        options (dict, optional): What ``--cfg-options`` lays over every cell.
    """

    def __init__(self, study: Study, options: Mapping[str, Any] | None = None) -> None:
        self.study = study
        self.options = dict(options or {})
        self._read: dict[Path, Config] = {}

    def of(self, cell: Cell) -> CellConfig:
        """Build a cell's config.

        Raises:
            StudyError: an option's key is not in the config, or two axes name a config.
        """
        study = self.study
        cfg = self._start(cell)
        lay_over(cfg, study.options, 'options')
        for axis, name in cell.group.values:
            lay_over(cfg, study.axes[axis][name].options, f'axes.{axis}.{name}')
        if cell.learning_rate is not None and study.learning_rate is not None:
            lay_over(cfg, {study.learning_rate.key: cell.learning_rate}, 'learning_rate.key')
        lay_over(cfg, self.options, '--cfg-options')
        cfg.randomness = dict(cfg.get('randomness') or {}) | dict(seed=cell.seed)
        cfg.launcher, cfg.resume = 'none', False
        cfg.pop('work_dir', None)
        tests = self._tests(cfg)
        return CellConfig(cfg, tests, _digest([cfg.to_dict(), tests, study.validate_at]))

    def _start(self, cell: Cell) -> Config:
        named = {axis: self.study.axes[axis][name].config for axis, name in cell.group.values}
        own = {axis: path for axis, path in named.items() if path is not None}
        if len(own) > 1:
            raise StudyError(f'{cell.group.name}: a config stands in {" and in ".join(own)}; one axis may name it')
        path = next(iter(own.values()), self.study.config)
        if path is None:
            raise StudyError(f"{cell.group.name}: no config: write config='<path from this file>' in the study")
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
            lay_over(changed, options, f'test.{name}')
            found[name] = changed.to_dict()
        return found


def lay_over(cfg: Config, options: Mapping[str, Any], where: str) -> None:
    """Change a config as ``--cfg-options`` does, but refuse keys that lead nowhere.

    The last part of a key may be new (a setting that the config leaves at its default); what it stands in may not.

    Args:
        cfg (Config): Changed in place.
        options (Mapping): Dotted keys and values.
        where (str): Where they were written, for the error.

    Raises:
        StudyError: a key leads nowhere, or a dict is laid over what is none.
    """
    for key, value in options.items():
        _check(cfg, key, where)
        try:
            cfg.merge_from_dict(with_whole_tunings(cfg, {key: copy.deepcopy(value)}))
        except (TypeError, KeyError, IndexError) as error:
            raise StudyError(f'{where}: {key!r} cannot be laid over the config: {error}') from None


def _check(cfg: Config, key: str, where: str) -> None:
    *parents, last = key.split('.')
    here: Any = cfg
    if parents and parents[0] in _TOP and parents[0] not in cfg:
        return
    for i, part in enumerate(parents):
        known = _keys(here)
        if part not in known:
            at = '.'.join(parents[:i]) or 'the config'
            if part == 'tuning' and i == len(parents) - 1 and _is_tuned(here):  # left at its default
                return
            raise StudyError(f'{where}: {key!r}: {at} has no {part!r}, but {", ".join(known)}{meant(part, known)}')
        here = here[int(part)] if isinstance(here, list | tuple) else here[part]
    if not parents and last not in cfg and last not in _TOP:
        raise StudyError(f'{where}: {key!r}: the config has no such key{meant(last, {*cfg.keys(), *_TOP})}')
    if parents and not isinstance(here, Mapping | list | tuple) and parents[-1] != 'tuning':
        raise StudyError(f'{where}: {key!r}: {".".join(parents)} is {here!r}, not a dict')


def _is_tuned(backbone: Any) -> bool:
    kind = str(backbone.get('type')) if isinstance(backbone, Mapping) else ''
    return kind.rpartition('.')[2] in ('ProTunedResNet', 'TunedBackbone')


def _keys(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [str(i) for i in range(len(value))]
    return [str(key) for key in value] if isinstance(value, Mapping | Config) else []


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_named).encode()).hexdigest()[:32]


def _named(value: Any) -> str:
    """Classes and functions by where they are defined: their repr may hold an address."""
    name = getattr(value, '__qualname__', None)
    return f'{value.__module__}.{name}' if name else repr(value)
