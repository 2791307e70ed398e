"""Are the files there that a config names, and do the annotations know its classes?"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_mm.data.annotations import check_annotations, read_annotations, read_json
from protuning_mm.data.classes import dataset_class, dataset_classes, unknown_categories, wrong_labels
from protuning_mm.data.errors import DataError
from protuning_mm.data.published import clean_in_its_place, lacking, source_of

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
    loaders = list(loaders)
    missing = missing_files(cfg, loaders)
    if missing:
        raise DataError(
            'data that the config names is not there:\n  '
            + '\n  '.join(missing)
            + ''.join(f'\n{source}' for source in _sources(cfg, loaders))
            + f'\n{_what_to_set(cfg, loaders)} Relative paths start at the current folder, {Path.cwd()}.'
        )
    for loader in loaders:
        for key, dataset in dataset_leaves(cfg, loader):
            if wrong := wrong_labels(key, dataset, cfg.get('default_scope', 'mmengine')):
                raise DataError(f'{wrong[0]}={wrong[1]}. {wrong[2]}')
            _check_annotations(cfg, key, dataset)


def missing_files(cfg: Config, loaders: Iterable[str]) -> list[str]:
    """Say which files and folders of some loaders, and of the evaluators beside them, are not there, and their keys."""
    loaders = list(loaders)
    missing = [text for loader in loaders for text in _missing_of_evaluators(loader, cfg)]
    for key, dataset in _all_leaves(cfg, loaders):
        missing += _missing(key, dataset)
    return list(dict.fromkeys(missing))


def dataset_leaves(cfg: Config, loader: str) -> list[tuple[str, dict[str, Any]]]:
    """Key and config of a loader's data sets, with wrappers such as RepeatDataset and ConcatDataset unpacked."""
    return list(_leaves(f'{loader}.dataset', (cfg.get(loader) or {}).get('dataset', {})))


def _all_leaves(cfg: Config, loaders: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The data sets of loaders, and the training sets whose images ``ShotGroups`` beside them counts."""
    for loader in loaders:
        yield from dataset_leaves(cfg, loader)
        for key, evaluator in _evaluators(loader, cfg):
            if evaluator.get('train_dataset'):
                yield from _leaves(f'{key}.train_dataset', evaluator['train_dataset'])
            elif str(evaluator.get('type')).endswith('ShotGroups') and not evaluator.get('class_counts'):
                yield from dataset_leaves(cfg, 'train_dataloader')


def _sources(cfg: Config, loaders: Iterable[str]) -> list[str]:
    """Where to get the published data sets that are missing."""
    absent = [dataset for key, dataset in _all_leaves(cfg, loaders) if any(_missing(key, dataset))]
    found = [source_of(each) for dataset in absent for each in (dataset, clean_in_its_place(dataset)) if each]
    return list(dict.fromkeys(str(source) for source in found if source))


def _what_to_set(cfg: Config, loaders: Iterable[str]) -> str:
    """Say which setting moves the data: the config's ``data_root``, and the keys of what does not lie in it."""
    root = str(cfg.get('data_root', '…'))
    outside = []
    for key, dataset in _all_leaves(cfg, loaders):
        clean = clean_in_its_place(dataset)
        key, dataset = (key, dataset) if clean is None else (f'{key}.clean', clean)
        own = str(dataset.get('data_root') or root)
        if any(_missing(key, dataset)) and own.rstrip('/') != root.rstrip('/') and not own.startswith(f'{root}/'):
            outside.append(f'{key}.data_root')
    keys = ' '.join(f'{key}=<folder>' for key in dict.fromkeys(outside))
    return (
        f'The config says data_root={root!r}. Set it to the folder of your data set: --cfg-options data_root=<folder>.'
        + (f' That does not move what lies elsewhere: --cfg-options {keys}.' if keys else '')
    )


def _leaves(key: str, dataset: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(dataset, dict) or not dataset:
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
    clean = clean_in_its_place(dataset)
    if clean is not None:
        yield from _missing(f'{key}.clean', clean)
        return
    source = source_of(dataset)
    if source is not None and '://' not in root:
        missing = lacking(source, dataset)
        if missing and not Path(root).is_dir():
            yield f'{key}.data_root={root!r}: there is no such folder, for {source.name}'
        elif missing:
            yield f'{key}.data_root={root!r}: {source.name} is not whole there; it lacks {", ".join(missing)}'
        return
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
    for key, evaluator in _evaluators(loader, cfg):
        path = evaluator.get('ann_file')
        if isinstance(path, str) and '://' not in path and not Path(path).exists():
            yield f'{key}.ann_file={path!r}: there is no such file'


def _evaluators(loader: str, cfg: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    key = loader.replace('dataloader', 'evaluator')
    evaluators = cfg.get(key) or []
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        if isinstance(evaluator, dict):
            yield key, evaluator


def _check_annotations(cfg: Config, key: str, dataset: dict[str, Any]) -> None:
    """Check a file in COCO's layout, and compare its categories with the classes, by name, as CocoDataset will."""
    path = Path(dataset.get('data_root') or '') / str(dataset.get('ann_file') or '')
    if path.suffix != '.json' or not path.is_file() or path.stat().st_size > _READ_TWICE:
        return
    scope = cfg.get('default_scope', 'mmengine')
    classes = dataset_classes(dataset, scope)
    if reads_boxes(dataset_class(dataset, scope)):
        content = read_annotations(path, key)
        train, with_mask = key.startswith('train'), uses_masks(cfg, key, dataset)
        check_annotations(content, path, key, classes, train, with_mask)
    else:
        content = read_json(path, key)
    if classes is None or not isinstance(content, dict) or 'categories' not in content:
        return
    unknown = unknown_categories(classes, content, path)
    if unknown:
        raise DataError(f'{key}: {unknown[0]}. {unknown[1]}')


def uses_masks(cfg: Config, key: str, dataset: dict[str, Any]) -> bool:
    """Whether a data set's masks matter to a run: its pipeline loads them, or the evaluator beside it scores them."""
    if any(step.get('with_mask') for step in dataset.get('pipeline') or () if isinstance(step, dict)):
        return True
    metrics = [evaluator.get('metric') for _, evaluator in _evaluators(key.split('.')[0], cfg)]
    return not key.startswith('train') and any(each == 'segm' or 'segm' in (each or ()) for each in metrics)


def reads_boxes(kind: Any) -> bool:
    """Whether mmdet's reader of boxes reads it: COCO's layout also holds captions and panoptic segments."""
    names = [base.__name__ for base in getattr(kind, '__mro__', ())]
    return 'CocoDataset' in names and 'CocoPanopticDataset' not in names
