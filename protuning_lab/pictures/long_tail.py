"""Accuracy by class, and how many training images each class had, in numbers.

Groups are those of Liu et al., *Large-Scale Long-Tailed Recognition in an Open World*, CVPR 2019: many-shot classes
have more than 100 training images, few-shot classes fewer than 20, medium-shot classes what lies between.
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

from protuning_lab.pictures.canvas import PictureError
from protuning_mm.data import check_data_files
from protuning_mm.data.metrics.shot_groups import FEW, GROUPS, MANY, assign_shot_groups

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Classes:
    """The classes of a training data set.

    Args:
        names (list[str]): Their names, by label.
        images (ndarray): (K,), training images of each.
    """

    names: list[str]
    images: Array

    @property
    def order(self) -> Array:
        """Labels from the class with most images to that with fewest; equal ones by label."""
        return np.argsort(-self.images, kind='stable')

    def groups(self, many: int = MANY, few: int = FEW) -> list[str]:
        """The group of each class, by label.

        Args:
            many (int): More images than this are many. Defaults to 100.
            few (int): Fewer than this are few. Defaults to 20.

        Raises:
            PictureError: ``few`` is above ``many``.
        """
        if few > many:
            raise PictureError(f'--few {few} must not be above --many {many}')
        return assign_shot_groups(self.images, many, few)


def class_accuracy(true: Array, predicted: Array, number: int) -> Array:
    """Share of each class's test images whose class was predicted; NaN where it has none.

    Args:
        true (ndarray): (N,), labels.
        predicted (ndarray): (N,), labels.
        number (int): Number of classes.

    Raises:
        PictureError: a label is none of the classes'.
    """
    for what, labels in (('true', true), ('predicted', predicted)):
        if len(labels) and not 0 <= labels.min() <= labels.max() < number:
            wrong = labels[(labels < 0) | (labels >= number)][0]
            raise PictureError(
                f'the predictions have the {what} class {wrong}, and the training data has {number} classes, from 0 to '
                f'{number - 1}: they belong to different data'
            )
    total = np.bincount(true, minlength=number)
    right = np.bincount(true[true == predicted], minlength=number)
    return np.where(total > 0, right / np.maximum(total, 1), np.nan)


def group_means(accuracy: Array, groups: Sequence[str]) -> dict[str, float]:
    """The mean over the classes of each group that has some, and over all; every class counts the same."""
    by_group = {group: accuracy[[g == group for g in groups]] for group in GROUPS}
    means = {group: float(np.nanmean(each)) for group, each in by_group.items() if np.isfinite(each).any()}
    return {**means, 'all': float(np.nanmean(accuracy))}


def count_config(cfg: Config) -> Classes:
    """Count the images of each class in a config's training data set.

    Raises:
        DataError: its files are missing.
        PictureError: its images have no class each.
    """
    scope = cfg.get('default_scope', 'mmpretrain')
    loader = cfg.get('train_dataloader')
    if not loader:
        raise PictureError(f'{cfg.filename} has no train_dataloader, whose images would be counted')
    check_data_files(cfg, ('train_dataloader',))
    with DATASETS.switch_scope_and_registry(scope) as registry:
        if scope != 'mmengine':
            __import__(f'{scope}.datasets')
        dataset: Any = registry.build(loader['dataset'])
    while hasattr(dataset, 'dataset'):  # one that repeats images has no more of them
        dataset = dataset.dataset
    labels = [dataset.get_data_info(i).get('gt_label') for i in range(len(dataset))]
    if not labels or not all(isinstance(label, int | np.integer) for label in labels):
        raise PictureError(
            f'the images of {type(dataset).__name__}, the training data of {cfg.filename}, have no gt_label each: '
            'long tails are drawn for classification with one class an image'
        )
    found = dataset.metainfo.get('classes')
    names = [str(name) for name in found] if found else [str(i) for i in range(max(labels) + 1)]
    return Classes(names, np.bincount(labels, minlength=len(names)))


def read_counts(path: str | Path) -> Classes:
    """Read a CSV file with the columns ``class`` and ``images``, a row a class.

    Rows stand in the order of the labels, or have a column ``label``.

    Raises:
        PictureError: it is missing or is otherwise.
    """
    if not Path(path).is_file():
        raise PictureError(f'there is no file of counts {str(path)!r}')
    with Path(path).open(newline='') as file:
        rows = list(csv.DictReader(file))
    if not rows or not {'class', 'images'} <= set(rows[0]):
        raise PictureError(
            f'{path} must have the columns class and images, and a row for each class; it begins with '
            f'{list(rows[0]) if rows else "nothing"}'
        )
    for number, row in enumerate(rows, 2):
        for key in {'images', 'label'} & set(row):
            if not (row[key] or '').strip().isdigit():
                raise PictureError(f'{path}, line {number}: {key} is {row[key]!r}, and must be a whole number')
    if 'label' in rows[0]:
        rows.sort(key=lambda row: int(row['label']))
    return Classes([row['class'] for row in rows], np.array([int(row['images']) for row in rows]))


def table(classes: Classes, groups: Sequence[str], runs: Mapping[str, Array]) -> str:
    """CSV that :func:`read_counts` reads again: a row a class, those with most training images first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['label', 'class', 'images', 'group', *runs])
    for label in classes.order:
        shares = ['' if np.isnan(accuracy[label]) else f'{accuracy[label]:.6f}' for accuracy in runs.values()]
        writer.writerow([label, classes.names[label], classes.images[label], groups[label], *shares])
    return text.getvalue()
