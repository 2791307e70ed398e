"""Runs every evaluator once on fake predictions, so that a wrong evaluator is found before training."""

import copy
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner

from protuning_mm.data.classes import find_classes
from protuning_mm.doctor.classes import list_datasets
from protuning_mm.doctor.findings import Finding, Findings, describe_error
from protuning_mm.doctor.noise_batch import make_noise_batch
from protuning_mm.doctor.samples import build_dataset
from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.engine.class_check import class_mismatches, num_classes_of
from protuning_mm.engine.errors import MismatchError
from protuning_mm.engine.evaluator_trial import WRITES_TO, Trial, try_evaluator, try_metrics
from protuning_mm.engine.faked_predictions import predicts_masks
from protuning_mm.engine.monitored_metrics import unknown_metrics

# Metrics that need no file, and only those annotations that a noise batch has.
_WITHOUT_DATA = ('Accuracy', 'AveragePrecision', 'IoUMetric', 'MultiLabelMetric', 'SingleLabelMetric', 'VOCMetric')


def check_evaluators(setup: TrainingSetup, data: bool) -> Findings:
    """Run the evaluators of validation and test on fake predictions, and check the metric names in other settings.

    Args:
        setup (TrainingSetup): The config, with its model.
        data (bool): Whether to use images of the data sets. Otherwise noise images are used where they suffice.
    """
    tried: list[Any] = []
    for split in ('val', 'test'):
        key, loader = f'{split}_evaluator', setup.cfg.get(f'{split}_dataloader')
        if not setup.cfg.get(key) or not loader or [setup.cfg[key], loader] in tried:
            continue
        tried.append([setup.cfg[key], loader])
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                trial = (_try_on_data if data else _try_on_noise)(setup, split, Path(folder))
        except MismatchError as error:
            where, _, found = str(error).partition(': ')
            yield Finding('error', where, found, 'the first evaluation would fail: correct what the message names')
            continue
        except Exception as error:
            found = f'the evaluator could not be tried: {describe_error(error)}'
            yield Finding('warning', key, found, 'look at the findings about the data')
            continue
        for note in trial.untried:
            where, _, found = note.partition(': ')
            yield Finding('info', where, found)
        if split == 'val':
            for where, found, advice in unknown_metrics(setup.cfg, trial, key):
                yield Finding('error', where, found, advice)


def _try_on_data(setup: TrainingSetup, split: str, folder: Path) -> Trial:
    key, model = f'{split}_evaluator', setup.model
    try:
        dataset = build_dataset(setup, f'{split}_dataloader')
    except Exception:  # the checks of the data report the cause
        return Trial()
    if dataset is None or _classes_differ(setup, dataset.metainfo):
        return Trial()
    return try_evaluator(
        _build_evaluator(setup, key, folder), dataset, key, num_classes_of(model), predicts_masks(model)
    )


def _try_on_noise(setup: TrainingSetup, split: str, folder: Path) -> Trial:
    key, cfg = f'{split}_evaluator', setup.cfg[f'{split}_evaluator']
    metrics = [dict(each) for each in (cfg if isinstance(cfg, list | tuple) else [cfg])]
    if not all(str(each.get('type')).split('.')[-1] in _WITHOUT_DATA for each in metrics):
        return Trial()
    datasets = [dataset for loader, dataset in list_datasets(setup) if loader.startswith(split)]
    classes = find_classes(datasets[0], setup.scope) if len(datasets) == 1 else None
    metainfo = dict(classes=classes or [str(i) for i in range(num_classes_of(setup.model) or 0)])
    if not metainfo['classes'] or _classes_differ(setup, metainfo):
        return Trial()
    batch = dict(zip(('inputs', 'data_samples'), make_noise_batch(setup.model, 2, (64, 64))))
    return try_metrics(_build_evaluator(setup, key, folder), batch, metainfo, key, None, predicts_masks(setup.model))


def _classes_differ(setup: TrainingSetup, metainfo: Any) -> bool:
    """Return whether the heads have other classes than the data set; the check of classes reports that."""
    if metainfo.get('classes') is None:
        return False
    return any(class_mismatches(setup.model, SimpleNamespace(metainfo=metainfo), ''))


def _build_evaluator(setup: TrainingSetup, key: str, folder: Path) -> Evaluator:
    """Build an evaluator as the runner does, but let it write to ``folder``.

    Raises:
        MismatchError: the evaluator cannot be built.
    """
    cfg = copy.deepcopy(setup.cfg[key])
    for metric in cfg if isinstance(cfg, list) else [cfg]:
        for name in WRITES_TO:
            if isinstance(metric.get(name), str):
                metric[name] = str(folder / Path(metric[name]).name)
    try:
        return Runner.build_evaluator(cast(Any, None), cfg)
    except Exception as error:
        raise MismatchError(f'{key}: the evaluator cannot be built: {describe_error(error)}') from error
