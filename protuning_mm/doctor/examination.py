"""The checks in their order; one that fails is a finding, and the others go on."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from sys import stderr
from typing import Any

from mmengine.logging import MMLogger

from protuning_mm.data.data_files import find_missing_files
from protuning_mm.doctor.case import Case, build_model
from protuning_mm.doctor.classes import LOADERS, check_num_classes
from protuning_mm.doctor.data import check_data
from protuning_mm.doctor.estimates import Estimates, estimate, training_size
from protuning_mm.doctor.evaluators import check_evaluators
from protuning_mm.doctor.findings import LEVELS, Finding, Findings, first_line
from protuning_mm.doctor.gradients import check_gradients
from protuning_mm.doctor.learning_rate import check_learning_rate
from protuning_mm.doctor.norms import check_norms
from protuning_mm.doctor.optimizer import check_optimizer
from protuning_mm.doctor.trial import Trial, run_trials
from protuning_mm.doctor.versions import check_versions
from protuning_mm.doctor.weights import check_frozen, check_pretrained
from protuning_mm.patches import patch_coco_metrics


@dataclass
class Report:
    """What an examination found; the gravest first."""

    findings: list[Finding] = field(default_factory=list)
    estimates: Estimates | None = None

    def add(self, findings: Findings, name: str) -> None:
        """Take a check's findings; an error inside of it is one too."""
        try:
            for finding in findings:
                if finding not in self.findings:
                    self.findings.append(finding)
        except Exception as error:
            said = f'this check could not run: {first_line(error)}'
            self.findings.append(Finding('warning', name, said, 'nothing is known of it; the others ran'))
        self.findings.sort(key=lambda finding: LEVELS.index(finding.level))

    def count(self, level: str) -> int:
        return sum(finding.level == level for finding in self.findings)


def examine(case: Case, data: bool = False, max_images: int | None = None, step: bool = True) -> Report:
    """Examine a config, its model and, if asked, its data.

    Args:
        case (Case): The config; its model is built here.
        data (bool): Read the data sets' annotations and images. Defaults to False.
        max_images (int, optional): How many images of a data set are decoded at the most. Defaults to all.
        step (bool): Run a training step, for gradients and memory. Defaults to True.
    """
    report = Report()
    with _quiet():
        report.add(check_versions(case), 'versions')
        report.add(check_learning_rate(case), 'auto_scale_lr')
        if _built(case, report):
            _examine_model(case, report, step)
            report.add(check_evaluators(case, data), 'val_evaluator')
        if data:
            report.add(check_data(case, max_images), 'data')
        elif find_missing_files(case.cfg, LOADERS):
            root = case.cfg.get('data_root', '…')
            report.add(iter([Finding('info', 'data_root', f'files of the data sets are not here (data_root={root!r})',
                                     '--data lists them')]), 'data')  # fmt: skip
    return report


def _built(case: Case, report: Report) -> bool:
    if not case.cfg.get('model'):
        report.add(iter([Finding('error', 'model', 'the config has none', 'inherit a config of a model')]), 'model')
        return False
    try:
        build_model(case)
        patch_coco_metrics(case.scope)  # as training will
    except Exception as error:
        found = f'the model cannot be built: {first_line(error)}'
        report.add(iter([Finding('error', 'model', found, 'mend the setting that the message names')]), 'model')
        return False
    return True


def _examine_model(case: Case, report: Report, step: bool) -> None:
    checks: dict[str, Callable[[Case], Findings]] = {
        'model.backbone': check_frozen,
        'optim_wrapper': check_optimizer,
        'norm_cfg': check_norms,
        'num_classes': check_num_classes,
        'init_cfg': check_pretrained,  # fills the backbone, so nothing that looks at tensors comes before
    }
    for name, check in checks.items():
        report.add(check(case), name)
    trials: list[Trial] = []
    why, size = '--no-step', None
    try:
        size = training_size(case.cfg)
        trials = run_trials(case, size) if step else []
    except Exception as error:
        why = f'no training step could be run ({first_line(error).removeprefix("RuntimeError: ")})'
        said = f'{why}: unused parameters and memory are not determined'
        report.add(iter([Finding('info', 'model', said)]), 'model')
    report.add(check_gradients(case, trials), 'find_unused_parameters')
    try:
        report.estimates = estimate(case, trials, size, why)
    except Exception as error:
        report.add(iter([Finding('info', 'estimates', f'could not be made: {first_line(error)}')]), 'estimates')


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the hosts' logs and warnings off: standard output is the report's."""
    logger: Any = MMLogger.get_current_instance()
    before = logger.level
    try:
        with warnings.catch_warnings(), redirect_stdout(stderr):
            warnings.simplefilter('ignore')
            logger.setLevel(logging.CRITICAL)
            yield
    finally:
        logger.setLevel(before)
