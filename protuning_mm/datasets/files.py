"""Are the files there that a config names, and do the annotations know its classes?"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from protuning_mm.datasets.errors import DataError

# Reading COCO's own 450 MB twice would cost half a minute; TuningHook compares the classes of what was loaded.
_READ_TWICE = 100 * 2**20


def check_data_files(cfg: Config, loaders: Iterable[str]) -> None:
    """Check the data sets of some loaders, and the evaluators beside them, before anything is built.

    Args:
        cfg (Config): The whole config.
        loaders (Iterable[str]): Keys such as ``'train_dataloader'``; missing or empty ones are passed over.

    Raises:
        DataError: lists every config key whose file or folder is missing and where it was looked for, or the classes
            that the annotation file does not know.
    """
    missing: list[str] = []
    leaves: list[tuple[str, dict[str, Any]]] = []
    for loader in loaders:
        if cfg.get(loader):
            leaves += _leaves(f'{loader}.dataset', cfg[loader].get('dataset', {}))
        missing += _missing_of_evaluators(loader, cfg)
    for key, dataset in leaves:
        missing += _missing(key, dataset)
    if missing:
        root = cfg.get('data_root', '…')
        raise DataError(
            'data that the config names is not there:\n  '
            + '\n  '.join(dict.fromkeys(missing))
            + f'\nThe config says data_root={root!r}. Set it to the folder of your data set: '
            '--cfg-options data_root=<folder>. Relative paths start at the current folder, '
            f'{Path.cwd()}.'
        )
    for key, dataset in leaves:
        _check_categories(key, dataset, cfg.get('default_scope', 'mmengine'))


def _leaves(key: str, dataset: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Unpack wrappers such as RepeatDataset and ConcatDataset."""
    if not isinstance(dataset, dict):
        return
    if 'dataset' in dataset:
        yield from _leaves(f'{key}.dataset', dataset['dataset'])
    elif 'datasets' in dataset:
        for i, part in enumerate(dataset['datasets']):
            yield from _leaves(f'{key}.datasets.{i}', part)
    else:
        yield key, dataset


def _missing(key: str, dataset: dict[str, Any]) -> Iterator[str]:
    root = dataset.get('data_root') or ''
    prefix = dataset.get('data_prefix') or {}
    named = {'ann_file': dataset.get('ann_file')}
    if isinstance(prefix, dict):
        named |= {f'data_prefix.{name}': value for name, value in prefix.items()}
    else:
        named['data_prefix'] = prefix
    if root and '://' not in root and not Path(root).is_dir():
        yield f'{key}.data_root={root!r}: there is no such folder'
        return
    for name, value in named.items():
        if not isinstance(value, str) or not value or '://' in value or '://' in root:
            continue
        path = Path(root) / value
        if not path.exists():
            yield f'{key}.{name}={value!r}: {str(path)!r} does not exist'


def _missing_of_evaluators(loader: str, cfg: Config) -> Iterator[str]:
    key = loader.replace('dataloader', 'evaluator')
    evaluators = cfg.get(key) or []
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        path = evaluator.get('ann_file') if isinstance(evaluator, dict) else None
        if isinstance(path, str) and '://' not in path and not Path(path).exists():
            yield f'{key}.ann_file={path!r}: there is no such file'


def _check_categories(key: str, dataset: dict[str, Any], scope: str) -> None:
    """Compare a COCO-like annotation file's categories with the data set's classes, by name, as CocoDataset will."""
    path = Path(dataset.get('data_root') or '') / str(dataset.get('ann_file') or '')
    if path.suffix != '.json' or not path.is_file() or path.stat().st_size > _READ_TWICE:
        return
    kind = dataset.get('type')
    kind = DATASETS.get(kind if '.' in kind else f'{scope}.{kind}') if isinstance(kind, str) else kind
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        classes = (getattr(kind, 'METAINFO', None) or {}).get('classes')
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f'{key}.ann_file: {str(path)!r} is no JSON: {error}') from None
    if classes is None or not isinstance(content, dict) or 'categories' not in content:
        return
    there = [category.get('name') for category in content['categories']]
    unknown = [name for name in classes if name not in there]
    if unknown:
        raise DataError(
            f'{key}: {len(unknown)} of its {len(classes)} classes are no categories of {str(path)!r}: '
            f'{_shortened(unknown)}. The file has {len(there)}: {_shortened(there)}. Write '
            f'metainfo=dict(classes=({", ".join(repr(name) for name in there[:3])}, …)) in the data set, with the '
            'names as the file has them, and num_classes in the heads to match.'
        )


def _shortened(names: list[Any]) -> str:
    return ', '.join(map(str, names[:8])) + (', …' if len(names) > 8 else '')
