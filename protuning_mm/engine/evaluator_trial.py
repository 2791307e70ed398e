"""An evaluator computes its metrics once on made-up predictions, before hours are spent on what it would refuse."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.dist import is_distributed
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.logging import MMLogger

from protuning_mm.engine.errors import MismatchError
from protuning_mm.engine.evaluator_faults import advice_for
from protuning_mm.engine.faked_predictions import fake_predictions
from protuning_mm.engine.random_state import random_state, set_random_state

# Metrics whose needs are known; subclasses count as what they inherit from.
TRIED = {
    'mmdet': {'CocoMetric', 'CocoPanopticMetric', 'DumpDetResults', 'LVISMetric', 'SemSegMetric', 'VOCMetric'},
    'mmseg': {'IoUMetric'},
    'mmpretrain': {'Accuracy', 'AveragePrecision', 'ConfusionMatrix', 'MultiLabelMetric', 'SingleLabelMetric'},
    'mmengine': {'DumpResults'},
    'protuning_mm': {'CorruptionAccuracy', 'MeanClassAccuracy', 'SubsetAccuracy'},
}
_OPEN_ENDED = {'CorruptionAccuracy', 'MeanClassAccuracy'}  # what they report depends on the images
WRITES_TO = ('outfile_prefix', 'output_dir', 'out_file_path', 'seg_out_dir')
_IMAGES = 3
_LVIS_IMAGES = 1000  # LVIS's evaluation copies the whole annotation file and looks at every image


@dataclass(frozen=True)
class Trial:
    """What an evaluator's trial showed.

    Args:
        metrics (tuple[str]): Names of the values that it computed.
        open_ended (tuple[str]): Prefixes under which there may be more: of what was not tried, or on other images.
        untried (tuple[str]): What was not tried, and why.
    """

    metrics: tuple[str, ...] = ()
    open_ended: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()


def try_evaluator(evaluator: Any, dataset: Any, key: str, num_classes: int | None, with_masks: bool) -> Trial:
    """Let every metric of an evaluator compute its values for a few images of a data set and made-up predictions.

    Evaluator, data set and random streams are afterwards as they were; nothing is written to the metrics' own files.

    Args:
        evaluator (Evaluator): As the run built it.
        dataset: The data set that it belongs to, built with its pipeline.
        key (str): The evaluator's key in the config.
        num_classes (int, optional): Classes that the model predicts, where the data set's ``metainfo`` has none.
        with_masks (bool): Whether the model predicts masks of objects.

    Raises:
        MismatchError: names the metric's key, what it failed with, and what would be right where that is known.
    """
    number = min(len(dataset), _IMAGES)
    if not isinstance(evaluator, Evaluator) or not number:
        return Trial(untried=(f'{key}: {type(evaluator).__name__} on {number} images',))
    if all(_why_not(metric) for metric in evaluator.metrics):  # then no image has to be read
        return Trial(untried=tuple(f'{key}: {_why_not(metric)}' for metric in evaluator.metrics))
    random = random_state()
    try:
        data = [dataset[i * len(dataset) // number] for i in range(number)]
    finally:
        set_random_state(random)
    if not all(isinstance(each, dict) and 'data_samples' in each for each in data):
        return Trial(untried=(f"{key}: the data set's items are no samples of the hosts",))
    return try_metrics(evaluator, pseudo_collate(data), dataset.metainfo, key, num_classes, with_masks)


def try_metrics(
    evaluator: Evaluator, batch: Any, metainfo: Any, key: str, num_classes: int | None, with_masks: bool
) -> Trial:
    """Do what :func:`try_evaluator` does for images that are loaded.

    Args:
        evaluator (Evaluator): With or without the data set's ``metainfo``.
        batch (dict): Images and data samples, collated.
        metainfo (dict): The data set's.
        key (str): The evaluator's key in the config.
        num_classes (int, optional): Classes that the model predicts, where ``metainfo`` has none.
        with_masks (bool): Whether the model predicts masks of objects.

    Raises:
        MismatchError: names the metric's key, what it failed with, and what would be right where that is known.
    """
    classes = len(metainfo.get('classes') or ()) or num_classes
    samples = deepcopy(list(batch['data_samples']))
    if not classes or not all(fake_predictions(sample, classes, with_masks) for sample in samples):
        return Trial(untried=(f'{key}: no predictions can be made up for {type(samples[0]).__name__}',))
    names: list[str] = []
    open_ended: list[str] = []
    untried: list[str] = []
    for i, metric in enumerate(evaluator.metrics):
        where = f'{key}.{i}' if len(evaluator.metrics) > 1 else key
        reason = _why_not(metric)
        if reason is not None:
            untried.append(f'{where}: {reason}')
        if reason is not None or _kinds(metric) & _OPEN_ENDED:
            open_ended.append(f'{metric.prefix}/' if metric.prefix else '')
        if reason is not None:
            continue
        with _as_before(metric), _quiet():
            metric.dataset_meta = metainfo
            try:
                names += _values(metric, batch, deepcopy(samples))
            except Exception as error:
                said = f'{type(metric).__name__} cannot evaluate this data set: {advice_for(metric, error, where)}'
                raise MismatchError(f'{where}: {said}') from error
    return Trial(tuple(names), tuple(open_ended), tuple(untried))


def _kinds(metric: Any) -> set[str]:
    """Names of the metric's classes that are in :data:`TRIED`."""
    return {cls.__name__ for cls in type(metric).__mro__ if cls.__name__ in TRIED.get(cls.__module__.split('.')[0], ())}


def _why_not(metric: Any) -> str | None:
    name, kinds = type(metric).__name__, _kinds(metric)
    if not kinds:
        return f'{name} is not tried: no predictions are made up for it'
    if 'LVISMetric' in kinds and len(getattr(metric._lvis_api, 'imgs', ())) > _LVIS_IMAGES:
        return f'{name} is not tried: with more than {_LVIS_IMAGES} images it takes long'
    if is_distributed() and type(metric).evaluate is not BaseMetric.evaluate:
        return f'{name} is not tried in several processes: it collects its results in its own way'
    return None


def _values(metric: Any, batch: Any, samples: Sequence[Any]) -> list[str]:
    metric.results = []
    if getattr(metric, 'img_ids', 0) is None:  # CocoMetric looks at every image of its file otherwise
        metric.img_ids = [sample.img_id for sample in samples]
    alone = Evaluator(metric)
    alone.process(samples, batch)
    if not is_distributed():
        return list(alone.evaluate(len(samples)))
    # every process computes it for itself: where one fails, all of them do, and none waits for another
    return [f'{metric.prefix}/{name}' if metric.prefix else name for name in metric.compute_metrics(metric.results)]


@contextmanager
def _as_before(metric: Any) -> Iterator[None]:
    """Give a metric back its attributes, and let it write into a folder that goes."""
    before = dict(vars(metric))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for name in WRITES_TO:
            if isinstance(before.get(name), str):
                setattr(metric, name, str(Path(folder) / f'trial{Path(before[name]).suffix}'))
        if 'CocoPanopticMetric' in _kinds(metric):
            _limit_panoptic(metric, folder)
        for name in ('output_dir', 'seg_out_dir'):
            if isinstance(before.get(name), str):
                Path(getattr(metric, name)).mkdir(exist_ok=True)
        try:
            yield
        finally:
            vars(metric).clear()
            vars(metric).update(before)


def _limit_panoptic(metric: Any, folder: str) -> None:
    """Let it score image by image: where its results are to be kept, it wants predictions for every image."""
    if metric.tmp_dir is None and not metric.format_only:
        metric.tmp_dir = tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the metrics' tables of made-up numbers off the log and off standard output."""
    logger: Any = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
