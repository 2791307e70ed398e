"""Samples of a config's own data sets, as their pipelines make them."""

import copy
from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch import Tensor

from protuning_mm.data.data_files import find_missing_files
from protuning_mm.doctor.case import Case
from protuning_mm.doctor.noise import Batch


def build_dataset(case: Case, loader: str) -> Any:
    """Build a loader's data set with its pipeline; None where the config has none, or its files are not here.

    Args:
        case (Case): The config.
        loader (str): The loader's key, such as ``'train_dataloader'``.

    Raises:
        Exception: whatever its construction raises.
    """
    dataset = (case.cfg.get(loader) or {}).get('dataset')
    if not dataset or find_missing_files(case.cfg, [loader]):
        return None
    with DATASETS.switch_scope_and_registry(case.scope) as registry:
        return registry.build(copy.deepcopy(dataset))


def training_batch(case: Case, images: int) -> Batch | None:
    """Load images of the training set through its pipeline and the model's data preprocessor; None without the data.

    Args:
        case (Case): With its model, on its device.
        images (int): How many.

    Raises:
        TypeError: the model takes no such batch.
        Exception: whatever the pipeline raises.
    """
    model: Any = case.model
    dataset = build_dataset(case, 'train_dataloader')
    if dataset is None or not len(dataset):
        return None
    batch = pseudo_collate([dataset[i * len(dataset) // images] for i in range(images)])
    data = model.data_preprocessor(batch, True)
    if not isinstance(data['inputs'], Tensor):
        raise TypeError(f'inputs of {type(data["inputs"]).__name__} are not tried')
    return data['inputs'], data['data_samples']
