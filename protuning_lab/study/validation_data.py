"""Checks that validation data, which decide the learning rate, are not the test data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_lab.study.configs import CellConfig
from protuning_lab.study.errors import StudyError
from protuning_mm.data.data_files import find_data_sets

# keys of a data set's config that do not change which images it contains
_NOT_DATA = ('pipeline', 'test_mode', 'metainfo', '_scope_', 'lazy_init', 'serialize_data', 'filter_cfg')


def check_validation_data(name: str, config: CellConfig) -> None:
    """Check that a cell is not validated and tested on the same data.

    Args:
        name (str): The name to use in error messages.
        config (CellConfig): The cell's config.

    Raises:
        StudyError: the config has no validation data, or validation and a test set share a data set.
    """
    if config.cfg.get('val_dataloader') is None:
        raise StudyError(
            f'{name}: the learning rate is chosen on validation data, but the config has none: set val_dataloader, '
            'val_cfg and val_evaluator'
        )
    own = _datasets_by_content(config.cfg, 'val_dataloader')
    for test, parts in config.tests.items():
        shared = own.keys() & _datasets_by_content(Config(dict(parts)), 'test_dataloader').keys()
        if shared:
            key = own[next(iter(shared))]
            raise StudyError(
                f'{name}: {key} and the test set {test!r} are the same data, {next(iter(shared))}. Choosing a learning '
                'rate on test data makes the test results too good: split validation data off the training data, or '
                'set allow_test_as_validation=True in the study; its tables will then state this'
            )


def _datasets_by_content(cfg: Config, loader: str) -> dict[str, str]:
    return {_describe_images(dataset): key for key, dataset in find_data_sets(cfg, loader)}


def _describe_images(dataset: Mapping[str, Any]) -> str:
    """Describe which images a data set contains. CIFAR-C counts as CIFAR's test set, in any folder."""
    kind = str(dataset.get('type')).rpartition('.')[2]
    corrupted = kind in ('CIFAR10C', 'CIFAR100C')
    whole_test = kind in ('CIFAR10', 'CIFAR100') and dataset.get('split') == 'test' and not dataset.get('indices')
    return f'the test set of {kind.removesuffix("C")}' if corrupted or whole_test else _normalized_config(dataset)


def _normalized_config(dataset: Mapping[str, Any]) -> str:
    """Return a data set's config as text: equal for different spellings of the same paths."""
    rest = {key: value for key, value in dataset.items() if key not in _NOT_DATA}
    root = rest.pop('data_root', None) or ''
    rest = {key: value for key, value in rest.items() if value not in (None, '', {})}
    if rest.get('ann_file'):
        rest['ann_file'] = _absolute_path(root, rest['ann_file'])
    prefix = rest.pop('data_prefix', '')
    named = dict(prefix) if isinstance(prefix, Mapping) else {'img_path': prefix}
    rest['data_prefix'] = {key: _absolute_path(root, value) for key, value in named.items()}
    return json.dumps(rest, sort_keys=True, default=str)


def _absolute_path(root: str, name: Any) -> str:
    return str(Path(str(root), str(name)).absolute()) if '://' not in f'{root}{name}' else f'{root}{name}'
