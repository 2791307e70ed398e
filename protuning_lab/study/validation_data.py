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
    for key, dataset in find_data_sets(config.cfg, 'val_dataloader'):
        for test, parts in config.tests.items():
            cfg = Config(dict(parts))
            for test_key, tested in find_data_sets(cfg, 'test_dataloader'):
                images = _describe_images(dataset)
                if images != _describe_images(tested) or _held_out(config.cfg, key, cfg, test_key):
                    continue
                raise StudyError(
                    f'{name}: {key} and the test set {test!r} are the same data, {images}. Choosing a learning rate on '
                    'test data makes the test results too good: split validation data off the training data, or set '
                    'allow_test_as_validation=True in the study; its tables will then state this'
                )


def _held_out(val_cfg: Config, val_key: str, test_cfg: Config, test_key: str) -> bool:
    """Whether ``HeldOut`` separates two data sets: its part ``'train'`` in one of them, ``'held_out'`` in the other."""
    one, other = _find_parts(val_cfg, val_key), _find_parts(test_cfg, test_key)
    return any({one[split], other[split]} == {'train', 'held_out'} for split in one.keys() & other.keys())


def _find_parts(cfg: Config, key: str) -> dict[str, str]:
    """Return for each ``HeldOut`` around a data set what it splits, with fraction and seed, and its part."""
    found, node = {}, cfg
    for name in key.split('.'):
        node = node[int(name) if isinstance(node, list) else name]
        if isinstance(node, Mapping) and str(node.get('type')).rpartition('.')[2] == 'HeldOut':
            split = [_without_pipelines(node['dataset']), node.get('fraction', 0.1), node.get('seed', 0)]
            found[json.dumps(split, sort_keys=True, default=str)] = node.get('part', 'train')
    return found


def _without_pipelines(dataset: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in dataset.items() if key not in _NOT_DATA}
    return {key: _without_pipelines(value) if key == 'dataset' else value for key, value in kept.items()}


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
