"""``--data``: everything that the loaders' data sets name, on the disk."""

from pathlib import Path
from typing import Any

from protuning_mm.data import DataError
from protuning_mm.data.annotations import read_annotations
from protuning_mm.data.classes import find_classes, find_dataset_class, find_label_config_fault
from protuning_mm.data.data_files import find_missing_files, reads_boxes, uses_masks
from protuning_mm.doctor.built import examine_built
from protuning_mm.doctor.case import Case
from protuning_mm.doctor.classes import LOADERS, leaves
from protuning_mm.doctor.coco import examine_coco
from protuning_mm.doctor.findings import Finding, Findings, first_line
from protuning_mm.doctor.label_counts import examine_labels
from protuning_mm.patches import patch_empty_data_sets

_NO_MATTER = ('pipeline', 'test_mode', 'filter_cfg', 'backend_args', '_scope_')


def check_data(case: Case, max_images: int | None = None) -> Findings:
    """Examine the data sets of the three loaders, each once.

    Args:
        case (Case): With its model, if it could be built.
        max_images (int, optional): How many images of each are decoded at the most. Defaults to all.
    """
    patch_empty_data_sets()
    missing = find_missing_files(case.cfg, LOADERS)
    for text in missing:
        where, _, found = text.partition(': ')
        yield Finding('error', where, found, 'put the files there, or --cfg-options data_root=<folder>')
    seen, said = [], set[str]()
    unusable = {text.split('.')[0] for text in missing}  # loaders
    for key, dataset in leaves(case):
        files = {name: value for name, value in dataset.items() if name not in _NO_MATTER}
        if files in seen or any(text.startswith(f'{key}.') for text in missing):
            continue
        seen.append(files)
        try:
            for finding in _examine(case, key, dataset, max_images, said):
                if finding.level == 'error':
                    unusable.add(key.split('.')[0])
                yield finding
        except Exception as error:
            yield Finding('warning', key, f'not examined to its end: {first_line(error)}', 'see the annotations')
    yield from _count_labels(case, max_images, unusable)


def _count_labels(case: Case, max_images: int | None, unusable: set[str]) -> Findings:
    counted: list[Any] = []
    for loader in LOADERS:
        dataset = (case.cfg.get(loader) or {}).get('dataset')
        if not dataset or dataset in counted:
            continue
        counted.append(dataset)
        key = f'{loader}.dataset'
        try:
            yield from examine_labels(case, key, max_images)
        except DataError as error:
            yield Finding('error', key, str(error), 'mend the data set')
        except Exception as error:
            if loader not in unusable:  # that was told, and is the reason
                yield Finding('warning', key, f'labels could not be counted: {first_line(error)}', 'see the data set')


def _examine(case: Case, key: str, dataset: dict[str, Any], max_images: int | None, said: set[str]) -> Findings:
    if '://' in str(dataset.get('data_root')):
        yield Finding('info', key, f'data_root={dataset["data_root"]!r} is no local folder: not examined')
        return
    if wrong := find_label_config_fault(key, dataset, case.scope):
        yield Finding('error', *wrong)
        return
    path = Path(dataset.get('data_root') or '') / str(dataset.get('ann_file') or '')
    if not (reads_boxes(find_dataset_class(dataset, case.scope)) and path.suffix == '.json'):
        yield from examine_built(case, key, dataset, max_images, said)
        return
    try:
        content = read_annotations(path, key)
    except DataError as error:
        where = f'{key}.ann_file'
        yield Finding('error', where, str(error).removeprefix(f'{where}: '), 'copy or make it again')
        return
    classes, with_mask = find_classes(dataset, case.scope), uses_masks(case.cfg, key, dataset)
    roi_head = getattr(case.model, 'roi_head', None)
    stuff = getattr(getattr(roi_head, 'semantic_head', None), 'num_classes', None)
    yield from examine_coco(key, dataset, content, path, classes, with_mask, stuff, max_images)
