"""Counts how often each class occurs in the data sets, and checks that every class does."""

from collections.abc import Callable, Iterable
from typing import Any

from mmengine.registry import DATASETS

from protuning_mm.data.ignore_index import find_ignore_index_conflicts
from protuning_mm.data.label_counts import count_labels
from protuning_mm.data.label_faults import find_label_faults
from protuning_mm.doctor.findings import Finding, Findings
from protuning_mm.doctor.images import map_in_parallel
from protuning_mm.doctor.training_setup import TrainingSetup, build_in_scope


def check_label_counts(setup: TrainingSetup, key: str, max_images: int | None) -> Findings:
    """Count the labels of a data loader's data set, built as training builds it, and report classes that never occur.

    Args:
        setup (TrainingSetup): The config, with its model if it could be built.
        key (str): Config key of the data set.
        max_images (int, optional): Number of label maps to read. Defaults to all.
    """

    def read(work: Callable[[Any], Any], entries: Iterable[Any]) -> Any:
        return map_in_parallel(work, list(entries), f'{key}: pixels')

    dataset = build_in_scope(DATASETS, setup.cfg[key.split('.')[0]]['dataset'], setup.scope)
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    if setup.model is not None and key.startswith('train'):
        for mismatch in find_ignore_index_conflicts(setup.model, dataset, key):
            yield Finding('error', *mismatch)
    counts = count_labels(dataset, {'pixels': max_images} if max_images else None, map if max_images else read)
    if counts is None:
        return
    yield Finding('info', f'{key}.metainfo', str(counts))
    for level, found, advice in find_label_faults(counts, key):
        yield Finding(level, key, found, advice)
