"""Conflicts of ``ignore_index``: torch fails on a label that the data set ignores and the model does not."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from protuning_mm.data.label_counts import unwrap_data_sets


def find_ignore_index_conflicts(model: nn.Module, dataset: Any, key: str) -> Iterator[tuple[str, str, str]]:
    """Compare the ``ignore_index`` of a data set with that of a segmentor's heads.

    Args:
        model (nn.Module): A model of a host library.
        dataset: A built data set; only data sets of label maps have an ``ignore_index``.
        key (str): The data set's key in the config.

    Yields:
        tuple: The config key, what was found, and what would be right.
    """
    ignored = {
        part.ignore_index for part in unwrap_data_sets(dataset) if isinstance(getattr(part, 'ignore_index', None), int)
    }
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(model, name, None)
        for each in head if isinstance(head, nn.ModuleList) else [head]:
            found = getattr(each, 'ignore_index', None)
            if isinstance(found, int) and ignored and ignored != {found}:
                label = min(ignored)
                yield (
                    f'model.{name}.ignore_index',
                    f'{found}, but {key}.ignore_index is {label}: the loss would fail on that label',
                    f"set it to {label} in every head, as data_preprocessor.seg_pad_val and as IoUMetric's "
                    f'ignore_index, or write {found} into the label maps',
                )
