"""Is what the learning rate is chosen on anything but the test split?"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_lab.study.configs import CellConfig
from protuning_lab.study.errors import StudyError
from protuning_mm.data.data_files import find_data_sets

# how images are read and shown does not change which they are
_NOT_DATA = ('pipeline', 'test_mode', 'metainfo', '_scope_', 'lazy_init', 'serialize_data', 'filter_cfg')


def check_validation(name: str, config: CellConfig) -> None:
    """Refuse a cell that would choose its learning rate on the data that it is tested on.

    Args:
        name (str): The cell's name, for the error.
        config (CellConfig): Its configs.

    Raises:
        StudyError: there is no validation, or one of its data sets is one of a test set's.
    """
    if config.cfg.get('val_dataloader') is None:
        raise StudyError(
            f'{name}: the learning rate is chosen on the validation split, and the config has none: set '
            'val_dataloader, val_cfg and val_evaluator'
        )
    own = _data(config.cfg, 'val_dataloader')
    for test, parts in config.tests.items():
        shared = own.keys() & _data(Config(dict(parts)), 'test_dataloader').keys()
        if shared:
            key = own[next(iter(shared))]
            raise StudyError(
                f'{name}: {key} and the test set {test!r} are the same data, {next(iter(shared))}. A learning rate '
                'that is chosen on the test split makes its numbers too good: split validation data off the training '
                'data, or say allow_test_as_validation=True in the study, and the tables will tell'
            )


def _data(cfg: Config, loader: str) -> dict[str, str]:
    return {_pictures(dataset): key for key, dataset in find_data_sets(cfg, loader)}


def _pictures(dataset: Mapping[str, Any]) -> str:
    """Which pictures a data set shows. CIFAR-C is CIFAR's test set, wherever either of them lies."""
    kind = str(dataset.get('type')).rpartition('.')[2]
    corrupted = kind in ('CIFAR10C', 'CIFAR100C')
    whole_test = kind in ('CIFAR10', 'CIFAR100') and dataset.get('split') == 'test' and not dataset.get('indices')
    return f'the test set of {kind.removesuffix("C")}' if corrupted or whole_test else _identity(dataset)


def _identity(dataset: Mapping[str, Any]) -> str:
    """Which data a data set's config names, however its paths are spelt."""
    rest = {key: value for key, value in dataset.items() if key not in _NOT_DATA}
    root = rest.pop('data_root', None) or ''
    rest = {key: value for key, value in rest.items() if value not in (None, '', {})}
    if rest.get('ann_file'):
        rest['ann_file'] = _path(root, rest['ann_file'])
    prefix = rest.pop('data_prefix', '')
    named = dict(prefix) if isinstance(prefix, Mapping) else {'img_path': prefix}
    rest['data_prefix'] = {key: _path(root, value) for key, value in named.items()}
    return json.dumps(rest, sort_keys=True, default=str)


def _path(root: str, name: Any) -> str:
    return str(Path(str(root), str(name)).absolute()) if '://' not in f'{root}{name}' else f'{root}{name}'
