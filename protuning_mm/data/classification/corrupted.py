"""A test set in which every image occurs once for each corruption and severity."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from protuning_mm.data.classification.subset import Labels, Subset
from protuning_mm.data.corruptions import CORRUPTIONS, SEVERITIES, check_corruption
from protuning_mm.data.errors import DataError
from protuning_mm.registry import DATASETS


@DATASETS.register_module()
class Corrupted(Subset):
    """Every image of any test set, once for each corruption and severity.

    This class only writes corruption and severity into each sample. ``dict(type='protuning_mm.Corrupt',
    corruption=None)`` in the data set's pipeline applies them, after the image is loaded, cropped and resized.
    For CIFAR-10-C and CIFAR-100-C, use the data sets ``CIFAR10C`` and ``CIFAR100C``.

    Args:
        dataset (dict | BaseDataset): The clean test set.
        corruptions (Sequence[str]): Names of the corruptions. Defaults to all 15.
        severities (Sequence[int]): The severities. Defaults to 1 to 5.
        lazy_init (bool): Whether to load nothing before it is needed. Defaults to False.

    Raises:
        DataError: a corruption or severity does not exist, or a subset of this data set is requested.
    """

    def __init__(
        self,
        dataset: Any,
        corruptions: Sequence[str] = CORRUPTIONS,
        severities: Sequence[int] = SEVERITIES,
        lazy_init: bool = False,
    ) -> None:
        self.kinds = [(corruption, severity) for corruption in corruptions for severity in severities]
        for corruption, severity in self.kinds:
            check_corruption(corruption, severity)
        super().__init__(dataset, lazy_init=lazy_init)

    def choose(self, labels: Labels) -> list[int]:
        return list(range(len(labels)))

    def get_data_info(self, idx: int) -> dict[str, Any]:
        kind, i = divmod(idx, super().__len__())
        corruption, severity = self.kinds[kind]
        return super().get_data_info(i) | dict(corruption=corruption, severity=severity)

    def get_gt_labels(self) -> Labels:
        return np.tile(super().get_gt_labels(), len(self.kinds))

    def get_cat_ids(self, idx: int) -> list[int]:
        return super().get_cat_ids(idx % super().__len__())

    def get_subset(self, indices: Any) -> Any:
        raise DataError(
            'Corrupted: a subset of a corrupted test set would mix its corruptions. Put the subset inside: '
            "dict(type='protuning_mm.Corrupted', dataset=dict(type='protuning_mm.FewShot', dataset=…))"
        )

    def __len__(self) -> int:
        return super().__len__() * len(self.kinds)

    def __getitem__(self, idx: int) -> Any:
        whole = self.dataset
        while isinstance(whole, Subset):
            whole = whole.dataset
        return whole.pipeline(self.get_data_info(idx))
