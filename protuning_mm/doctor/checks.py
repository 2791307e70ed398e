"""Runs all checks of a training setup and collects their findings in a report."""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from sys import stderr
from typing import Any

from mmengine.logging import MMLogger

from protuning_mm.data.data_files import find_missing_files
from protuning_mm.doctor.batch_norms import check_batch_norms
from protuning_mm.doctor.classes import LOADERS, check_num_classes
from protuning_mm.doctor.data import check_data
from protuning_mm.doctor.estimates import Estimates, estimate_sizes
from protuning_mm.doctor.evaluators import check_evaluators
from protuning_mm.doctor.findings import LEVELS, Finding, Findings, describe_error
from protuning_mm.doctor.gradients import check_gradients
from protuning_mm.doctor.learning_rate import check_learning_rate
from protuning_mm.doctor.network_input import check_network_input
from protuning_mm.doctor.optimizer import check_optimizer
from protuning_mm.doctor.training_setup import TrainingSetup, build_model
from protuning_mm.doctor.trial_step import TrialStep, run_trial_steps
from protuning_mm.doctor.tuning_advice import advise_tuning
from protuning_mm.doctor.versions import check_versions
from protuning_mm.doctor.weights import check_frozen, check_pretrained
from protuning_mm.engine.image_size import find_training_size
from protuning_mm.patches import patch_coco_metrics


@dataclass
class Report:
    """The findings of all checks, most severe first, and the estimated sizes.

    Args:
        findings (list[Finding]): The findings.
        estimates (Estimates, optional): Sizes of files and memory; None if they could not be estimated.
        tunings (str): Which tunings were best on few images. Defaults to an empty string.
    """

    findings: list[Finding] = field(default_factory=list)
    estimates: Estimates | None = None
    tunings: str = ''

    def add(self, findings: Iterable[Finding], key: str) -> None:
        """Add the findings of a check; if the check raises an error, add that as a finding.

        Args:
            findings (Iterable[Finding]): The check's findings; a generator runs the check here.
            key (str): Config key of the finding if the check raises an error.
        """
        try:
            for finding in findings:
                if finding not in self.findings:
                    self.findings.append(finding)
        except Exception as error:
            found = f'this check stopped with an error: {describe_error(error)}'
            advice = 'the rest of this check did not run; the other checks did'
            self.findings.append(Finding('warning', key, found, advice))

    def count(self, level: str) -> int:
        """Return the number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)


def run_checks(setup: TrainingSetup, data: bool = False, max_images: int | None = None, step: bool = True) -> Report:
    """Check a config, its model and, if requested, its data.

    Args:
        setup (TrainingSetup): The config to check. Its model is built here.
        data (bool): Whether to read the data sets' annotations and images. Defaults to False.
        max_images (int, optional): Number of images to decode per data set. Defaults to all.
        step (bool): Whether to run a training step, to check gradients and estimate memory. Defaults to True.
    """
    report = Report()
    with _quiet():
        report.add(check_versions(setup), 'versions')
        report.add(check_learning_rate(setup), 'auto_scale_lr')
        report.add(_build_model(setup), 'model')
        if setup.model is not None:
            _check_model(setup, report, step)
            report.tunings = advise_tuning(setup)
            report.add(check_evaluators(setup, data), 'val_evaluator')
        if data:
            report.add(check_data(setup, max_images), 'data')
        elif find_missing_files(setup.cfg, LOADERS):
            found = f'files of the data sets are missing (data_root={setup.cfg.get("data_root", "…")!r})'
            report.findings.append(Finding('info', 'data_root', found, '--data lists them'))
    report.findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return report


def _build_model(setup: TrainingSetup) -> Findings:
    if not setup.cfg.get('model'):
        yield Finding('error', 'model', 'the config has no model', 'inherit from a config that has one')
        return
    try:
        patch_coco_metrics(setup.scope)  # tools/train.py does the same
        build_model(setup)
    except Exception as error:
        found = f'the model cannot be built: {describe_error(error)}'
        yield Finding('error', 'model', found, 'correct the setting that the message names')


def _check_model(setup: TrainingSetup, report: Report, step: bool) -> None:
    checks: dict[str, Callable[[TrainingSetup], Findings]] = {
        'model.backbone': check_frozen,
        'optim_wrapper': check_optimizer,
        'norm_cfg': check_batch_norms,
        'num_classes': check_num_classes,
        'model.data_preprocessor': check_network_input,
        'init_cfg': check_pretrained,  # loads the backbone's weights, which the checks after this one may need
    }
    for key, check in checks.items():
        report.add(check(setup), key)
    steps: list[TrialStep] = []
    reason, size = '--no-step', None
    try:
        size = find_training_size(setup.cfg)
        steps = run_trial_steps(setup, size) if step else []
    except Exception as error:
        reason = f'no training step could be run ({describe_error(error).removeprefix("RuntimeError: ")})'
        found = f'{reason}: unused parameters and memory are not determined'
        report.findings.append(Finding('info', 'model', found))
    report.add(check_gradients(setup, steps), 'find_unused_parameters')
    try:
        report.estimates = estimate_sizes(setup, steps, size, reason)
    except Exception as error:
        found = f'sizes could not be estimated: {describe_error(error)}'
        report.findings.append(Finding('info', 'estimates', found))


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress logs and warnings of the hosts, and keep standard output for the report."""
    logger: Any = MMLogger.get_current_instance()
    level = logger.level
    try:
        with warnings.catch_warnings(), redirect_stdout(stderr):
            warnings.simplefilter('ignore')
            logger.setLevel(logging.CRITICAL)
            yield
    finally:
        logger.setLevel(level)
