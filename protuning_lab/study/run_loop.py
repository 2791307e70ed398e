"""Runs the cells of a schedule in a pool of workers."""

from pathlib import Path

from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.grid import Cell
from protuning_lab.study.job import Job
from protuning_lab.study.learning_rate_choice import get_metric
from protuning_lab.study.progress import Progress
from protuning_lab.study.results import Result, cell_folder
from protuning_lab.study.schedule import Schedule
from protuning_lab.study.workers import SameProcess, Workers


def run_cells(
    schedule: Schedule,
    configs: ConfigBuilder,
    work_dir: Path,
    pool: SameProcess | Workers,
    progress: Progress,
    threads: int,
) -> None:
    """Run all cells of a schedule. A failed run does not stop the others.

    Args:
        schedule (Schedule): The cells to run.
        configs (ConfigBuilder): Builds the config of each cell.
        work_dir (Path): The study's work dir.
        pool (SameProcess | Workers): Runs the jobs.
        progress (Progress): Displays the progress.
        threads (int): Number of torch threads per run.

    Raises:
        StudyError: a run does not report a metric that the study names.
    """
    running: dict[str, Cell] = {}
    while True:
        while pool.free and (cell := schedule.next_cell()) is not None:
            job = make_job(cell, configs, work_dir, threads, pool.size)
            running[job.name] = cell
            pool.submit(job)
            progress.run_started(job.name)
        if not running:
            return
        for outcome in pool.wait():
            cell = running.pop(outcome.name)
            if outcome.result is None:
                schedule.mark_failed(cell, outcome.error or '')
            else:
                _check_metrics(configs, outcome.result)
                schedule.mark_succeeded(cell, outcome.result)
            progress.run_ended(outcome)


def make_job(cell: Cell, configs: ConfigBuilder, work_dir: Path, threads: int = 1, jobs: int = 1) -> Job:
    """Build the job of a cell: everything that a worker needs to run it."""
    config, study = configs.build(cell), configs.study
    return Job(
        name=cell.name,
        folder=cell_folder(work_dir, cell),
        labels=dict(cell.group.values) | dict(learning_rate=cell.learning_rate, setting=cell.setting, seed=cell.seed),
        cfg=config.cfg,
        tests=config.tests,
        digest=config.digest,
        validate=study.validate_at,
        keep_checkpoints=study.keep_checkpoints,
        keep_delta=study.keep_deltas and not cell.search,
        threads=threads,
        jobs=jobs,
    )


def _check_metrics(configs: ConfigBuilder, result: Result) -> None:
    """Check that a run reports the metrics of the study, so that a wrong name stops the study after its first run."""
    study = configs.study
    if study.learning_rate is not None:
        get_metric(result['val'], study.learning_rate.metric, 'learning_rate.metric', 'validation')
    if study.table.metric is not None:
        for name, metrics in result['test'].items():
            get_metric(metrics, study.table.metric, 'table.metric', f'test set {name!r}')
