"""Checks that the heads predict as many classes as the data sets have."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from protuning_mm.data.classes import find_classes, find_dataset_class, find_label_config_fault
from protuning_mm.data.data_files import find_data_sets
from protuning_mm.doctor.findings import Finding, Findings
from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.engine.class_check import class_mismatches

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_num_classes(setup: TrainingSetup) -> Findings:
    """Compare every head's ``num_classes`` with the ``metainfo`` in the config or in the data set's class."""
    reported: set[str] = set()
    for key, dataset in list_datasets(setup):
        if wrong := find_label_config_fault(key, dataset, setup.scope):
            yield Finding('error', *wrong)
            continue
        classes = find_classes(dataset, setup.scope)
        if classes is not None:
            kind = find_dataset_class(dataset, setup.scope)
            metainfo = dict(getattr(kind, 'METAINFO', None) or {}) | dict(dataset.get('metainfo') or {})
            yield from check_heads(setup, metainfo | dict(classes=classes), key, reported)


def check_heads(setup: TrainingSetup, metainfo: Any, key: str, reported: set[str]) -> Findings:
    """Compare every head's ``num_classes`` with a data set's ``metainfo``; report each head once.

    Args:
        setup (TrainingSetup): The config, with its model.
        metainfo (dict): The data set's ``metainfo``, with its classes.
        key (str): Config key of the data set.
        reported (set[str]): Config keys of the heads that were already reported. New ones are added.
    """
    data = SimpleNamespace(metainfo=metainfo)
    for head, found, advice in class_mismatches(setup.model, data, key):
        if head not in reported:
            reported.add(head)
            yield Finding('error', head, found, advice)


def list_datasets(setup: TrainingSetup) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield config key and config of every data set of the three data loaders, without wrappers."""
    for loader in LOADERS:
        yield from find_data_sets(setup.cfg, loader)
