"""Would the first evaluation end well? Each evaluator computes its metrics once, on made-up predictions."""

import copy
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from mmengine.evaluator import Evaluator
from mmengine.runner import Runner

from protuning_mm.data.classes import find_classes
from protuning_mm.doctor.case import Case
from protuning_mm.doctor.classes import leaves
from protuning_mm.doctor.findings import Finding, Findings, first_line
from protuning_mm.doctor.noise import noise_batch
from protuning_mm.doctor.samples import build_dataset
from protuning_mm.engine.class_check import class_mismatches, num_classes_of
from protuning_mm.engine.errors import MismatchError
from protuning_mm.engine.evaluator_trial import WRITES_TO, Trial, try_evaluator, try_metrics
from protuning_mm.engine.faked_predictions import predicts_masks
from protuning_mm.engine.monitored_metrics import unknown_metrics

# These need no file, and no more of a sample than noise has
_WITHOUT_DATA = ('Accuracy', 'AveragePrecision', 'IoUMetric', 'MultiLabelMetric', 'SingleLabelMetric', 'VOCMetric')


def check_evaluators(case: Case, data: bool) -> Findings:
    """Try the evaluators of validation and test, and look up the metrics that settings name.

    Args:
        case (Case): With its model.
        data (bool): Whether images of the data sets may be read; else noise takes their place where that is enough.
    """
    tried: list[Any] = []
    for split in ('val', 'test'):
        key, loader = f'{split}_evaluator', case.cfg.get(f'{split}_dataloader')
        if not case.cfg.get(key) or not loader or [case.cfg[key], loader] in tried:
            continue
        tried.append([case.cfg[key], loader])
        try:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                trial = (_on_data if data else _on_noise)(case, split, Path(folder))
        except MismatchError as error:
            where, _, found = str(error).partition(': ')
            yield Finding('error', where, found, 'the first evaluation would stop: mend what the message names')
            continue
        except Exception as error:
            yield Finding('warning', key, f'it could not be tried: {first_line(error)}', 'see what is said of the data')
            continue
        for note in trial.untried:
            where, _, found = note.partition(': ')
            yield Finding('info', where, found)
        if split == 'val':
            for where, found, advice in unknown_metrics(case.cfg, trial, key):
                yield Finding('error', where, found, advice)


def _on_data(case: Case, split: str, folder: Path) -> Trial:
    key, model = f'{split}_evaluator', case.model
    assert model is not None
    try:
        dataset = build_dataset(case, f'{split}_dataloader')
    except Exception:  # what examines the data says why
        return Trial()
    if dataset is None or _told(case, dataset.metainfo):
        return Trial()
    return try_evaluator(_build(case, key, folder), dataset, key, num_classes_of(model), predicts_masks(model))


def _on_noise(case: Case, split: str, folder: Path) -> Trial:
    key, cfg = f'{split}_evaluator', case.cfg[f'{split}_evaluator']
    metrics = [dict(each) for each in (cfg if isinstance(cfg, list | tuple) else [cfg])]
    if not all(str(each.get('type')).split('.')[-1] in _WITHOUT_DATA for each in metrics):
        return Trial()
    assert case.model is not None
    datasets = [dataset for loader, dataset in leaves(case) if loader.startswith(split)]
    classes = find_classes(datasets[0], case.scope) if len(datasets) == 1 else None
    metainfo = dict(classes=classes or [str(i) for i in range(num_classes_of(case.model) or 0)])
    if not metainfo['classes'] or _told(case, metainfo):
        return Trial()
    batch = dict(zip(('inputs', 'data_samples'), noise_batch(case.model, 2, (64, 64))))
    return try_metrics(_build(case, key, folder), batch, metainfo, key, None, predicts_masks(case.model))


def _told(case: Case, metainfo: Any) -> bool:
    """Whether the heads have other classes, which is a finding of its own."""
    if metainfo.get('classes') is None:
        return False
    assert case.model is not None
    return any(class_mismatches(case.model, SimpleNamespace(metainfo=metainfo), ''))


def _build(case: Case, key: str, folder: Path) -> Evaluator:
    """Build an evaluator as the runner does, but for where it writes.

    Raises:
        MismatchError: says why it cannot be built.
    """
    cfg = copy.deepcopy(case.cfg[key])
    for metric in cfg if isinstance(cfg, list) else [cfg]:
        for name in WRITES_TO:
            if isinstance(metric.get(name), str):
                metric[name] = str(folder / Path(metric[name]).name)
    try:
        return Runner.build_evaluator(cast(Any, None), cfg)
    except Exception as error:
        raise MismatchError(f'{key}: it cannot be built: {first_line(error)}') from error
