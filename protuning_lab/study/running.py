"""Runs the cells of a schedule."""

from pathlib import Path

from protuning_lab.study.cell import Job
from protuning_lab.study.choice import metric_of
from protuning_lab.study.configs import Configs
from protuning_lab.study.grid import Cell
from protuning_lab.study.progress import Progress
from protuning_lab.study.results import Result, folder_of
from protuning_lab.study.schedule import Schedule
from protuning_lab.study.workers import SameProcess, Workers


def run_cells(
    schedule: Schedule,
    configs: Configs,
    work_dir: Path,
    pool: SameProcess | Workers,
    progress: Progress,
    threads: int,
) -> None:
    """Run a schedule until nothing is left. A run that fails does not stop the others.

    Raises:
        StudyError: a run does not report the metric that the study names.
    """
    under_way: dict[str, Cell] = {}
    while True:
        while pool.free and (cell := schedule.next()) is not None:
            job = make_job(cell, configs, work_dir, threads, pool.size)
            under_way[job.name] = cell
            pool.submit(job)
            progress.began(job.name)
        if not under_way:
            return
        for outcome in pool.wait():
            cell = under_way.pop(outcome.name)
            if outcome.result is None:
                schedule.failed_at(cell, outcome.error or '')
            else:
                _check_metrics(configs, outcome.result)
                schedule.succeeded(cell, outcome.result)
            progress.ended(outcome)


def make_job(cell: Cell, configs: Configs, work_dir: Path, threads: int = 1, jobs: int = 1) -> Job:
    """Collect what a worker needs to run a cell."""
    config, study = configs.of(cell), configs.study
    return Job(
        name=cell.name,
        folder=folder_of(work_dir, cell),
        labels=dict(cell.group.values) | dict(learning_rate=cell.learning_rate, seed=cell.seed),
        cfg=config.cfg,
        tests=config.tests,
        digest=config.digest,
        validate=study.validate_at,
        keep_checkpoints=study.keep_checkpoints,
        threads=threads,
        jobs=jobs,
    )


def _check_metrics(configs: Configs, result: Result) -> None:
    """Check after each run that it reports the metrics of the study, so that the first run tells, not the last."""
    study = configs.study
    if study.learning_rate is not None:
        metric_of(result['val'], study.learning_rate.metric, 'learning_rate.metric', 'validation')
    if study.table.metric is not None:
        for name, metrics in result['test'].items():
            metric_of(metrics, study.table.metric, 'table.metric', f'test set {name!r}')
