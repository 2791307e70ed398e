"""How often each class occurs, through the data sets as training builds them."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

from mmengine.registry import DATASETS

from protuning_mm.data.ignore_index import find_ignore_index_conflicts
from protuning_mm.data.label_counts import count_labels
from protuning_mm.data.label_faults import find_label_faults
from protuning_mm.doctor.case import Case
from protuning_mm.doctor.findings import Finding, Findings
from protuning_mm.doctor.images import in_parallel


def examine_labels(case: Case, key: str, max_images: int | None) -> Findings:
    """Count the labels of a loader's data set, and say which classes never occur.

    Args:
        case (Case): With the config.
        key (str): The data set's key in the config.
        max_images (int, optional): How many label maps are read.
    """

    def read(work: Callable[[Any], Any], entries: Iterable[Any]) -> Any:
        return in_parallel(work, list(entries), f'{key}: pixels')

    with DATASETS.switch_scope_and_registry(case.scope) as registry:
        dataset = registry.build(copy.deepcopy(case.cfg[key.split('.')[0]]['dataset']))
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    if case.model is not None and key.startswith('train'):
        for wrong in find_ignore_index_conflicts(case.model, dataset, key):
            yield Finding('error', *wrong)
    found = count_labels(dataset, {'pixels': max_images} if max_images else None, map if max_images else read)
    if found is None:
        return
    yield Finding('info', f'{key}.metainfo', str(found))
    for level, said, advice in find_label_faults(found, key):
        yield Finding(level, key, said, advice)
