"""Data files that a config names: whether they exist, and whether the annotations contain the classes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_mm.data.annotations import check_annotations, read_annotations, read_json
from protuning_mm.data.classes import (
    explain_unknown_categories,
    find_classes,
    find_dataset_class,
    find_label_config_fault,
)
from protuning_mm.data.errors import DataError
from protuning_mm.data.published_data_sets import find_clean_config, find_missing_paths, find_source

# Reading COCO's 450 MB a second time would take half a minute; TuningHook compares the classes of the loaded data set.
_LARGEST = 100 * 2**20


def check_data_files(cfg: Config, loaders: Sequence[str]) -> None:
    """Check the data sets of data loaders and of the corresponding evaluators, before anything is built.

    Args:
        cfg (Config): The whole config.
        loaders (Sequence[str]): Keys such as ``'train_dataloader'``; missing or empty loaders are skipped.

    Raises:
        DataError: lists every config key whose file or folder is missing, with the path; or the wrong entries of an
            annotation file; or the classes that an annotation file does not contain.
    """
    missing = find_missing_files(cfg, loaders)
    if missing:
        raise DataError(
            'files or folders that the config names do not exist:\n  '
            + '\n  '.join(missing)
            + ''.join(f'\n{source}' for source in _list_sources(cfg, loaders))
            + f'\n{_suggest_data_root(cfg, loaders)} Relative paths start at the current folder, {Path.cwd()}.'
        )
    for loader in loaders:
        for key, dataset in find_data_sets(cfg, loader):
            if wrong := find_label_config_fault(key, dataset, cfg.get('default_scope', 'mmengine')):
                raise DataError(f'{wrong[0]}={wrong[1]}. {wrong[2]}')
            _check_annotations(cfg, key, dataset)


def find_missing_files(cfg: Config, loaders: Sequence[str]) -> list[str]:
    """List the missing files and folders of data loaders and their evaluators, with their config keys."""
    missing = []
    for loader in loaders:
        for key, evaluator in _list_evaluators(loader, cfg):
            path = evaluator.get('ann_file')
            if isinstance(path, str) and '://' not in path and not Path(path).exists():
                missing.append(f'{key}.ann_file={path!r}: there is no such file')
    for key, dataset in _find_all_data_sets(cfg, loaders):
        missing += _find_missing(key, dataset)
    return list(dict.fromkeys(missing))


def find_data_sets(cfg: Config, loader: str) -> list[tuple[str, dict[str, Any]]]:
    """Find key and config of each data set of a loader, inside wrappers such as RepeatDataset and ConcatDataset."""
    return list(_unwrap(f'{loader}.dataset', (cfg.get(loader) or {}).get('dataset', {})))


def _find_all_data_sets(cfg: Config, loaders: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the data sets of loaders, and the training sets whose images their ``ShotGroups`` metrics count."""
    for loader in loaders:
        yield from find_data_sets(cfg, loader)
        for key, evaluator in _list_evaluators(loader, cfg):
            if evaluator.get('train_dataset'):
                yield from _unwrap(f'{key}.train_dataset', evaluator['train_dataset'])
            elif str(evaluator.get('type')).endswith('ShotGroups') and not evaluator.get('class_counts'):
                yield from find_data_sets(cfg, 'train_dataloader')


def _list_sources(cfg: Config, loaders: Sequence[str]) -> list[str]:
    """List where to get the published data sets that are missing."""
    absent = [dataset for key, dataset in _find_all_data_sets(cfg, loaders) if any(_find_missing(key, dataset))]
    found = [find_source(each) for dataset in absent for each in (dataset, find_clean_config(dataset)) if each]
    return list(dict.fromkeys(str(source) for source in found if source))


def _suggest_data_root(cfg: Config, loaders: Sequence[str]) -> str:
    """Say which setting names the data: the config's ``data_root``, and the keys of data sets outside of it."""
    root = str(cfg.get('data_root') or '…')
    outside = []
    for key, dataset in _find_all_data_sets(cfg, loaders):
        key, dataset = _read_instead(key, dataset)
        if any(_find_missing(key, dataset)) and not Path(dataset.get('data_root') or root).is_relative_to(root):
            outside.append(f'{key}.data_root')
    keys = ' '.join(f'{key}=<folder>' for key in dict.fromkeys(outside))
    return (
        f'The config says data_root={root!r}. Set it to the folder of your data set: --cfg-options data_root=<folder>.'
        + (f' For data in other folders: --cfg-options {keys}.' if keys else '')
    )


def _unwrap(key: str, dataset: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(dataset, dict) or not dataset:
        return
    if 'dataset' in dataset:
        yield from _unwrap(f'{key}.dataset', dataset['dataset'])
    elif 'datasets' in dataset:
        for i, part in enumerate(dataset['datasets']):
            yield from _unwrap(f'{key}.datasets.{i}', part)
    else:
        yield key, dataset


def _find_missing(key: str, dataset: dict[str, Any]) -> Iterator[str]:
    key, dataset = _read_instead(key, dataset)
    root, source = dataset.get('data_root') or '', find_source(dataset)
    missing = [] if source is None else find_missing_paths(source, dataset)
    if '://' in root or (source is not None and not missing):
        return
    if not Path(root).is_dir():
        yield f'{key}.data_root={root!r}: there is no such folder' + (f', for {source.name}' if source else '')
    elif source is not None:
        yield f'{key}.data_root={root!r}: {source.name} is incomplete; missing: {", ".join(missing)}'
    else:
        prefix = dataset.get('data_prefix')
        named = {'ann_file': dataset.get('ann_file'), 'data_prefix': prefix}
        if isinstance(prefix, dict):
            named |= {f'data_prefix.{name}': value for name, value in prefix.items()}
        for name, value in named.items():
            if isinstance(value, str) and '://' not in value and not (Path(root) / value).exists():
                yield f'{key}.{name}={value!r}: {str(Path(root) / value)!r} does not exist'


def _read_instead(key: str, dataset: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the data set whose files are read: the clean test set where CIFAR-C is computed, otherwise itself."""
    clean = find_clean_config(dataset)
    return (key, dataset) if clean is None else (f'{key}.clean', clean)


def _list_evaluators(loader: str, cfg: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    key = loader.replace('dataloader', 'evaluator')
    evaluators = cfg.get(key) or []
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        if isinstance(evaluator, dict):
            yield key, evaluator


def _check_annotations(cfg: Config, key: str, dataset: dict[str, Any]) -> None:
    """Check a file in COCO's layout, and compare the names of its categories with the classes, as CocoDataset does."""
    path = Path(dataset.get('data_root') or '') / str(dataset.get('ann_file') or '')
    if path.suffix != '.json' or not path.is_file() or path.stat().st_size > _LARGEST:
        return
    scope = cfg.get('default_scope', 'mmengine')
    classes = find_classes(dataset, scope)
    if reads_boxes(find_dataset_class(dataset, scope)):
        content = read_annotations(path, key)
        train, with_mask = key.startswith('train'), uses_masks(cfg, key, dataset)
        check_annotations(content, path, key, classes, train, with_mask)
    else:
        content = read_json(path, key)
    if classes is None or not isinstance(content, dict) or 'categories' not in content:
        return
    if unknown := explain_unknown_categories(classes, content, path):
        raise DataError(f'{key}: {unknown[0]}. {unknown[1]}')


def uses_masks(cfg: Config, key: str, dataset: dict[str, Any]) -> bool:
    """Check whether a run uses the masks of a data set: its pipeline loads them, or the evaluator scores them."""
    if any(step.get('with_mask') for step in dataset.get('pipeline') or () if isinstance(step, dict)):
        return True
    metrics = [evaluator.get('metric') for _, evaluator in _list_evaluators(key.split('.')[0], cfg)]
    return not key.startswith('train') and any(each == 'segm' or 'segm' in (each or ()) for each in metrics)


def reads_boxes(kind: Any) -> bool:
    """Check whether a class reads boxes from COCO's layout, which can also hold captions and panoptic segments."""
    names = [base.__name__ for base in getattr(kind, '__mro__', ())]
    return 'CocoDataset' in names and 'CocoPanopticDataset' not in names
