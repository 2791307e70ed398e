"""Whether a data set and the model ignore the same label: torch stops at a label that only the data set ignores."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from protuning_mm.data.label_counts import leaves


def ignored_differently(model: nn.Module, dataset: Any, key: str) -> Iterator[tuple[str, str, str]]:
    """Compare a data set's ``ignore_index`` with that of a segmentor's heads.

    Args:
        model (nn.Module): A model of the hosts.
        dataset: A data set, built; others than of label maps have no ``ignore_index``.
        key (str): Its key in the config.

    Yields:
        tuple: The config's key, what was found, and what would be right.
    """
    wanted = {part.ignore_index for part in leaves(dataset) if isinstance(getattr(part, 'ignore_index', None), int)}
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(model, name, None)
        for each in head if isinstance(head, nn.ModuleList) else [head]:
            found = getattr(each, 'ignore_index', None)
            if isinstance(found, int) and wanted and wanted != {found}:
                label = min(wanted)
                yield (
                    f'model.{name}.ignore_index',
                    f'{found}, but {key}.ignore_index is {label}: the loss would meet that label and stop',
                    f"set it to {label} in every head, as data_preprocessor.seg_pad_val and as IoUMetric's "
                    f'ignore_index, or write {found} into the label maps',
                )
