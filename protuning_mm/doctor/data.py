"""Checks the files of all data sets of a config (``--data``)."""

from pathlib import Path
from typing import Any

from protuning_mm.data import DataError
from protuning_mm.data.classes import find_dataset_class, find_label_config_fault
from protuning_mm.data.data_files import find_missing_files, reads_boxes
from protuning_mm.doctor.classes import LOADERS, list_datasets
from protuning_mm.doctor.coco_dataset import check_coco_dataset
from protuning_mm.doctor.findings import Finding, Findings, describe_error
from protuning_mm.doctor.host_dataset import check_host_dataset
from protuning_mm.doctor.label_counts import check_label_counts
from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.patches import patch_empty_data_sets

# settings in which two data sets of the same files may differ
_NOT_FILES = ('pipeline', 'test_mode', 'filter_cfg', 'backend_args', '_scope_')


def check_data(setup: TrainingSetup, max_images: int | None = None) -> Findings:
    """Check the data sets of the three data loaders; a data set that several loaders use is checked once.

    Args:
        setup (TrainingSetup): The config, with its model if it could be built.
        max_images (int, optional): Number of images to decode per data set. Defaults to all.
    """
    patch_empty_data_sets()
    missing = find_missing_files(setup.cfg, LOADERS)
    for text in missing:
        where, _, found = text.partition(': ')
        yield Finding('error', where, found, 'put the files there, or --cfg-options data_root=<folder>')
    checked, reported = [], set[str]()
    faulty_loaders = {text.split('.')[0] for text in missing}
    for key, dataset in list_datasets(setup):
        files = {name: value for name, value in dataset.items() if name not in _NOT_FILES}
        if files in checked or any(text.startswith(f'{key}.') for text in missing):
            continue
        checked.append(files)
        try:
            for finding in _check_dataset(setup, key, dataset, max_images, reported):
                if finding.level == 'error':
                    faulty_loaders.add(key.split('.')[0])
                yield finding
        except Exception as error:
            found = f'only partly checked: {describe_error(error)}'
            yield Finding('warning', key, found, 'look at the annotations')
    yield from _count_labels(setup, max_images, faulty_loaders)


def _count_labels(setup: TrainingSetup, max_images: int | None, faulty_loaders: set[str]) -> Findings:
    counted: list[Any] = []
    for loader in LOADERS:
        dataset = (setup.cfg.get(loader) or {}).get('dataset')
        if not dataset or dataset in counted:
            continue
        counted.append(dataset)
        key = f'{loader}.dataset'
        try:
            yield from check_label_counts(setup, key, max_images)
        except DataError as error:
            yield Finding('error', key, str(error), 'correct the data set')
        except Exception as error:
            if loader not in faulty_loaders:  # otherwise the cause is already reported
                found = f'labels could not be counted: {describe_error(error)}'
                yield Finding('warning', key, found, 'look at the data set')


def _check_dataset(
    setup: TrainingSetup, key: str, dataset: dict[str, Any], max_images: int | None, reported: set[str]
) -> Findings:
    if '://' in str(dataset.get('data_root')):
        yield Finding('info', key, f'not checked: data_root={dataset["data_root"]!r} is not a local folder')
        return
    if wrong := find_label_config_fault(key, dataset, setup.scope):
        yield Finding('error', *wrong)
        return
    path = Path(dataset.get('data_root') or '') / str(dataset.get('ann_file') or '')
    if reads_boxes(find_dataset_class(dataset, setup.scope)) and path.suffix == '.json':
        yield from check_coco_dataset(setup, key, dataset, path, max_images)
    else:
        yield from check_host_dataset(setup, key, dataset, max_images, reported)
