"""Do the heads predict as many classes as the data sets have?"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from protuning_mm.data.classes import find_classes, find_dataset_class, find_label_config_fault
from protuning_mm.data.data_files import find_data_sets
from protuning_mm.doctor.case import Case
from protuning_mm.doctor.findings import Finding, Findings
from protuning_mm.engine.class_check import class_mismatches

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_num_classes(case: Case) -> Findings:
    """Compare every head's ``num_classes`` with ``metainfo``, from the config or the data set's class."""
    said: set[str] = set()
    for key, dataset in leaves(case):
        if wrong := find_label_config_fault(key, dataset, case.scope):
            yield Finding('error', *wrong)
            continue
        classes = find_classes(dataset, case.scope)
        if classes is not None:
            kind = find_dataset_class(dataset, case.scope)
            metainfo = dict(getattr(kind, 'METAINFO', None) or {}) | dict(dataset.get('metainfo') or {})
            yield from compare(case, metainfo | dict(classes=classes), key, said)


def compare(case: Case, metainfo: Any, key: str, said: set[str]) -> Findings:
    """Compare every head with some classes; a head that was said to differ is not said again.

    Args:
        case (Case): With its model.
        metainfo (dict): The data set's, with its classes.
        key (str): The data set's key.
        said (set[str]): Heads that were found to differ; added to.
    """
    assert case.model is not None
    data = SimpleNamespace(metainfo=metainfo)
    for head, found, advice in class_mismatches(case.model, data, key):
        if head not in said:
            said.add(head)
            yield Finding('error', head, found, advice)


def leaves(case: Case) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and config of every data set of the three loaders, wrappers unpacked."""
    for loader in LOADERS:
        yield from find_data_sets(case.cfg, loader)
