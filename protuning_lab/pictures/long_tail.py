"""Computes accuracy by class and the number of training images of each class.

The groups follow Liu et al., *Large-Scale Long-Tailed Recognition in an Open World*, CVPR 2019: many-shot classes have
more than 100 training images, few-shot classes fewer than 20, and medium-shot classes the numbers between.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from protuning_lab.pictures.figures import PictureError
from protuning_mm.data import check_data_files
from protuning_mm.data.metrics.shot_groups import FEW, GROUPS, MANY, assign_shot_groups

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Classes:
    """The classes of a training data set.

    Args:
        names (list[str]): Class names in the order of the labels.
        images (ndarray): (K,), number of training images per class.
    """

    names: list[str]
    images: Array

    @property
    def order(self) -> Array:
        """Labels by descending number of images; equal numbers by ascending label."""
        return np.argsort(-self.images, kind='stable')

    def groups(self, many: int = MANY, few: int = FEW) -> list[str]:
        """Return the group of each class in the order of the labels: ``'many'``, ``'medium'`` or ``'few'``.

        Args:
            many (int): Classes with more images than this are ``'many'``. Defaults to 100.
            few (int): Classes with fewer images than this are ``'few'``. Defaults to 20.

        Raises:
            PictureError: ``few`` is greater than ``many``.
        """
        if few > many:
            raise PictureError(f'--few {few} must not be above --many {many}')
        return assign_shot_groups(self.images, many, few)


def compute_class_accuracy(true: Array, predicted: Array, number: int) -> Array:
    """Compute the accuracy of each class; NaN for a class without test images.

    Args:
        true (ndarray): (N,), true labels.
        predicted (ndarray): (N,), predicted labels.
        number (int): Number of classes, K.

    Returns:
        ndarray: (K,), from 0 to 1.

    Raises:
        PictureError: a label is not between 0 and K - 1.
    """
    for what, labels in (('true', true), ('predicted', predicted)):
        if len(labels) and not 0 <= labels.min() <= labels.max() < number:
            wrong = labels[(labels < 0) | (labels >= number)][0]
            raise PictureError(
                f'the predictions contain the {what} class {wrong}, but the training data has only {number} classes, 0 '
                f'to {number - 1}: the two belong to different data sets'
            )
    total = np.bincount(true, minlength=number)
    right = np.bincount(true[true == predicted], minlength=number)
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def compute_group_means(accuracy: Array, groups: Sequence[str]) -> dict[str, float]:
    """Compute the mean class accuracy of each non-empty group and of all classes; every class has the same weight."""
    by_group = {group: accuracy[[g == group for g in groups]] for group in GROUPS}
    means = {group: float(np.nanmean(each)) for group, each in by_group.items() if np.isfinite(each).any()}
    return {**means, 'all': float(np.nanmean(accuracy))}


def count_training_images(cfg: Config) -> Classes:
    """Count the images of each class in a config's training data set.

    Raises:
        DataError: files of the data set are missing.
        PictureError: the config has no training data, or its images do not have one class each.
    """
    scope = cfg.get('default_scope', 'mmpretrain')
    loader = cfg.get('train_dataloader')
    if not loader:
        raise PictureError(f'{cfg.filename} has no train_dataloader, so there are no images to count')
    check_data_files(cfg, ('train_dataloader',))
    with DATASETS.switch_scope_and_registry(scope) as registry:
        if scope != 'mmengine':
            __import__(f'{scope}.datasets')
        dataset: Any = registry.build(loader['dataset'])
    while hasattr(dataset, 'dataset'):  # wrappers such as RepeatDataset do not add images
        dataset = dataset.dataset
    labels = [dataset.get_data_info(i).get('gt_label') for i in range(len(dataset))]
    if not labels or not all(isinstance(label, int | np.integer) for label in labels):
        raise PictureError(
            f'the images of {type(dataset).__name__}, the training data of {cfg.filename}, do not have one gt_label '
            'each: long-tail plots need classification data with one class per image'
        )
    found = dataset.metainfo.get('classes')
    names = [str(name) for name in found] if found else [str(i) for i in range(max(labels) + 1)]
    return Classes(names, np.bincount(labels, minlength=len(names)))


def read_counts(path: str | Path) -> Classes:
    """Read a CSV file with the columns ``class`` and ``images`` and one row per class.

    The rows are in the order of the labels, unless there is a column ``label``.

    Raises:
        PictureError: the file does not exist or has another format.
    """
    if not Path(path).is_file():
        raise PictureError(f'counts file {str(path)!r} does not exist')
    with Path(path).open(newline='') as file:
        rows = list(csv.DictReader(file))
    if not rows or not {'class', 'images'} <= set(rows[0]):
        raise PictureError(
            f'{path} must have the columns class and images, and one row per class; found '
            f'{list(rows[0]) if rows else "no rows"}'
        )
    for number, row in enumerate(rows, 2):
        for key in {'images', 'label'} & set(row):
            if not (row[key] or '').strip().isdigit():
                raise PictureError(f'{path}, line {number}: {key} is {row[key]!r}, but must be a whole number')
    if 'label' in rows[0]:
        rows.sort(key=lambda row: int(row['label']))
    return Classes([row['class'] for row in rows], np.array([int(row['images']) for row in rows]))


def format_table(classes: Classes, groups: Sequence[str], runs: Mapping[str, Array]) -> str:
    """Format accuracies as CSV: one row per class, by descending number of images. :func:`read_counts` can read it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['label', 'class', 'images', 'group', *runs])
    for label in classes.order:
        shares = ['' if np.isnan(accuracy[label]) else f'{accuracy[label]:.6f}' for accuracy in runs.values()]
        writer.writerow([label, classes.names[label], classes.images[label], groups[label], *shares])
    return text.getvalue()
