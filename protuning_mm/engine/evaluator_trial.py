"""A trial run of an evaluator on fake predictions, so that a wrong evaluator fails before training and not after it."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import copy, deepcopy
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

# Metrics for which fake predictions can be made, including their subclasses.
TRIED = {
    'mmdet': {'CocoMetric', 'CocoPanopticMetric', 'DumpDetResults', 'LVISMetric', 'SemSegMetric', 'VOCMetric'},
    'mmseg': {'IoUMetric'},
    'mmpretrain': {'Accuracy', 'AveragePrecision', 'ConfusionMatrix', 'MultiLabelMetric', 'SingleLabelMetric'},
    'mmengine': {'DumpResults'},
    'protuning_mm': {'CorruptionAccuracy', 'MeanClassAccuracy', 'SubsetAccuracy'},
}
_OPEN_ENDED = {'CorruptionAccuracy', 'MeanClassAccuracy'}  # the names of their values depend on the images
WRITES_TO = ('outfile_prefix', 'output_dir', 'out_file_path', 'seg_out_dir')
_IMAGES = 3
_LVIS_IMAGES = 1000  # LVIS's evaluation copies the whole annotation file and processes every image


@dataclass(frozen=True)
class Trial:
    """The result of an evaluator's trial run.

    Args:
        metrics (tuple[str]): Names of the values that the evaluator computed.
        open_ended (tuple[str]): Prefixes under which the evaluator may report further values, because a metric was not
            tried or because the names depend on the images.
        untried (tuple[str]): Metrics that were not tried, each with the reason.
    """

    metrics: tuple[str, ...] = ()
    open_ended: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()


def try_evaluator(evaluator: Any, dataset: Any, key: str, num_classes: int | None, with_masks: bool) -> Trial:
    """Run every metric of an evaluator on a few images of a data set with fake predictions.

    Evaluator, data set and random states are left unchanged, and nothing is written to the metrics' output files.

    Args:
        evaluator (Evaluator): The evaluator of the run.
        dataset: The evaluator's data set, built with its pipeline.
        key (str): Config key of the evaluator.
        num_classes (int, optional): Number of classes that the model predicts, used if ``metainfo`` has no classes.
        with_masks (bool): Whether the model predicts instance masks.

    Raises:
        MismatchError: a metric failed; the message gives its config key, the failure and, if known, a remedy.
    """
    number = min(len(dataset), _IMAGES)
    if not isinstance(evaluator, Evaluator) or not number:
        return Trial(untried=(f'{key}: {type(evaluator).__name__} on {number} images',))
    if all(_untried_reason(metric) for metric in evaluator.metrics):  # avoids reading images
        return Trial(untried=tuple(f'{key}: {_untried_reason(metric)}' for metric in evaluator.metrics))
    random = random_state()
    try:
        data = [dataset[i * len(dataset) // number] for i in range(number)]
    finally:
        set_random_state(random)
    if not all(isinstance(each, dict) and 'data_samples' in each for each in data):
        return Trial(untried=(f"{key}: the data set's items are not samples of mmdet, mmseg or mmpretrain",))
    return try_metrics(evaluator, pseudo_collate(data), dataset.metainfo, key, num_classes, with_masks)


def try_metrics(
    evaluator: Evaluator, batch: Any, metainfo: Any, key: str, num_classes: int | None, with_masks: bool
) -> Trial:
    """Do the same as :func:`try_evaluator` for images that are already loaded.

    Args:
        evaluator (Evaluator): The evaluator, with or without the data set's ``metainfo``.
        batch (dict): Images and data samples, collated.
        metainfo (dict): ``metainfo`` of the data set.
        key (str): Config key of the evaluator.
        num_classes (int, optional): Number of classes that the model predicts, used if ``metainfo`` has no classes.
        with_masks (bool): Whether the model predicts instance masks.

    Raises:
        MismatchError: a metric failed; the message gives its config key, the failure and, if known, a remedy.
    """
    classes = len(metainfo.get('classes') or ()) or num_classes
    samples = deepcopy(list(batch['data_samples']))
    if not classes or not all(fake_predictions(sample, classes, with_masks) for sample in samples):
        return Trial(untried=(f'{key}: no fake predictions exist for {type(samples[0]).__name__}',))
    names: list[str] = []
    open_ended: list[str] = []
    untried: list[str] = []
    for i, metric in enumerate(evaluator.metrics):
        where = f'{key}.{i}' if len(evaluator.metrics) > 1 else key
        reason = _untried_reason(metric)
        if reason is not None or _kinds(metric) & _OPEN_ENDED:
            open_ended.append(f'{metric.prefix}/' if metric.prefix else '')
        if reason is not None:
            untried.append(f'{where}: {reason}')
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _quiet():
            metric = _copy(metric, Path(folder))
            metric.dataset_meta = metainfo
            try:
                names += _values(metric, batch, deepcopy(samples))
            except Exception as error:
                message = f'{type(metric).__name__} cannot evaluate this data set: {advice_for(metric, error, where)}'
                raise MismatchError(f'{where}: {message}') from error
    return Trial(tuple(names), tuple(open_ended), tuple(untried))


def _kinds(metric: Any) -> set[str]:
    """Return the names of the metric's class and base classes that are in :data:`TRIED`."""
    return {cls.__name__ for cls in type(metric).__mro__ if cls.__name__ in TRIED.get(cls.__module__.split('.')[0], ())}


def _untried_reason(metric: Any) -> str | None:
    name, kinds = type(metric).__name__, _kinds(metric)
    if not kinds:
        return f'{name} is not tried: no fake predictions exist for it'
    if 'LVISMetric' in kinds and len(getattr(metric._lvis_api, 'imgs', ())) > _LVIS_IMAGES:
        return f'{name} is not tried: it takes long with more than {_LVIS_IMAGES} images'
    if is_distributed() and type(metric).evaluate is not BaseMetric.evaluate:
        return f'{name} is not tried in distributed runs: it overrides how results are collected'
    return None


def _values(metric: Any, batch: Any, samples: Sequence[Any]) -> list[str]:
    if getattr(metric, 'img_ids', 0) is None:  # otherwise CocoMetric evaluates every image in its ann_file
        metric.img_ids = [sample.img_id for sample in samples]
    single = Evaluator(metric)
    single.process(samples, batch)
    if not is_distributed():
        return list(single.evaluate(len(samples)))
    # Every process computes the values on its own, so that all fail together and none waits for another.
    return [f'{metric.prefix}/{name}' if metric.prefix else name for name in metric.compute_metrics(metric.results)]


def _copy(metric: Any, folder: Path) -> Any:
    """Copy a metric without its results, and redirect the copy's output files to a temporary folder."""
    copied = copy(metric)
    copied.results = []
    for name in WRITES_TO:
        path = getattr(copied, name, None)
        if isinstance(path, str):
            redirected = folder / f'trial{Path(path).suffix}'
            setattr(copied, name, str(redirected))
            if name.endswith('_dir'):
                redirected.mkdir(exist_ok=True)
    # Without tmp_dir, CocoPanopticMetric would need predictions for every image. It removes tmp_dir when it is deleted,
    # so the copy needs its own.
    if 'CocoPanopticMetric' in _kinds(metric) and not metric.format_only:
        copied.tmp_dir = tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True)
    return copied


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress logging and standard output, in which metrics would print tables of fake results."""
    logger: Any = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
