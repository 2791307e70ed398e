"""Samples from the data sets of a config, loaded by their own pipelines."""

from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch import Tensor

from protuning_mm.data.data_files import find_missing_files
from protuning_mm.doctor.noise_batch import Batch
from protuning_mm.doctor.training_setup import TrainingSetup, build_in_scope


def build_dataset(setup: TrainingSetup, loader: str) -> Any:
    """Build the data set of a data loader, with its pipeline.

    Args:
        setup (TrainingSetup): The config.
        loader (str): Config key of the data loader, such as ``'train_dataloader'``.

    Returns:
        The data set; None if the config has none, or if its files are missing.

    Raises:
        Exception: any error of the constructor.
    """
    dataset = (setup.cfg.get(loader) or {}).get('dataset')
    if not dataset or find_missing_files(setup.cfg, [loader]):
        return None
    return build_in_scope(DATASETS, dataset, setup.scope)


def load_training_batch(setup: TrainingSetup, images: int) -> Batch | None:
    """Load images of the training set, processed by its pipeline and the model's data preprocessor.

    Args:
        setup (TrainingSetup): The config, with its model on its device.
        images (int): Number of images.

    Returns:
        tuple, optional: The inputs, (N, 3, H, W), and the data samples; None if there is no training set.

    Raises:
        TypeError: the model's inputs are not one tensor.
        Exception: any error of the pipeline.
    """
    dataset = build_dataset(setup, 'train_dataloader')
    if dataset is None or not len(dataset):
        return None
    batch = pseudo_collate([dataset[i * len(dataset) // images] for i in range(images)])
    data = setup.model.data_preprocessor(batch, True)
    if not isinstance(data['inputs'], Tensor):
        raise TypeError(f'inputs of type {type(data["inputs"]).__name__} are not supported')
    return data['inputs'], data['data_samples']
