"""``tools/study.py``: a grid of runs from one file."""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from protuning_lab.study.choice import search_cells
from protuning_lab.study.configs import Configs
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.estimate import clock, seconds_left
from protuning_lab.study.grid import Cell, Group, Shard, all_groups, only, read_shard
from protuning_lab.study.merging import merge
from protuning_lab.study.progress import Progress
from protuning_lab.study.reading import read_study
from protuning_lab.study.report import make_overview, write_report
from protuning_lab.study.results import ERROR, any_result, find_results, folder_of
from protuning_lab.study.running import run_cells
from protuning_lab.study.schedule import Schedule
from protuning_lab.study.summary import cells_of
from protuning_lab.study.validation import check_validation
from protuning_lab.study.workers import SameProcess, Workers
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_cfg_options, at_least
from protuning_mm.engine.work_dir import lock_work_dir


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Run a grid of trainings and write its tables, plots and page',
        epilog='Exit code: 0 if every run succeeded, 1 if one failed or the study has an error, 130 after Ctrl-C.',
    )
    parser.add_argument('study', help="path of the study's file; docs/study.md describes its keys")
    parser.add_argument('--work-dir', help='output folder (default: the work_dir of the study)')
    parser.add_argument(
        '--jobs', type=at_least(1), default=1, metavar='N', help='number of worker processes (default: 1)'
    )
    parser.add_argument(
        '--threads',
        type=at_least(1),
        default=1,
        metavar='N',
        help='number of CPU threads of torch in each (default: 1)',
    )
    parser.add_argument('--resume', action='store_true', help='keep finished runs whose config has not changed')
    parser.add_argument('--dry-run', action='store_true', help='print the runs and the estimated time; run nothing')
    parser.add_argument('--report', action='store_true', help='write tables, plots and page again; run nothing')
    parser.add_argument('--merge', nargs='+', metavar='DIR', help='copy the results of other work dirs; run nothing')
    parser.add_argument('--shard', metavar='I/N', help='run part I of N; slurm/N takes I from the array task')
    parser.add_argument('--only', nargs='+', metavar='AXIS=VALUE[,VALUE]', default=[], help='run only these values')
    add_cfg_options(parser, "settings that override every run's config")
    args = parser.parse_args(argv)
    if sum((args.dry_run, args.report, args.merge is not None)) > 1:
        parser.error('--dry-run, --report and --merge exclude each other')
    return args


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    before = signal.signal(signal.SIGTERM, _interrupt)
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # silence the messages of torch's profiler
    try:
        code = carry_out(args)
    except KeyboardInterrupt:
        print('stopped. Finished runs are kept: the same command with --resume goes on')
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    if code:
        raise SystemExit(code)


def _interrupt(*_: object) -> NoReturn:
    """Handle SIGTERM like Ctrl-C, so that the workers end too."""
    raise KeyboardInterrupt


def carry_out(args: argparse.Namespace) -> int:
    """Do what the flags say; return 1 if a run is missing at the end.

    Raises:
        StudyError: the study has an error.
    """
    shard = read_shard(args.shard) if args.shard else None
    study = _placed(read_study(args.study), args.work_dir, shard)
    configs = Configs(study, args.cfg_options)
    whole = all_groups(study)
    groups = only(study, whole, args.only)
    if args.merge is not None:
        for line in (told := merge(study, groups, configs, [Path(name) for name in args.merge])):
            print(line)
        return report(study, groups, configs, whole) or int(bool(told))
    mine = shard.take(groups) if shard else groups
    if args.report:
        return report(study, mine, configs, mine if shard else whole)
    check_configs(study, groups, configs)
    if args.dry_run:
        dry_run(study, mine, configs, args.jobs)
        return 0
    if any_result(study.work_dir) and not args.resume:
        raise StudyError(
            f'work dir {str(study.work_dir)!r} holds results: go on with --resume, make tables with --report, or name '
            'another by --work-dir'
        )
    with lock_work_dir(study.work_dir):
        run(study, mine, configs, args.jobs, args.threads)
        return report(study, mine, configs, mine if shard else whole)


def report(study: Study, groups: Sequence[Group], configs: Configs, whole: Sequence[Group]) -> int:
    """Write tables, plots and page of the whole study, and list failed runs; return 1 if runs of these groups lack."""
    overview = make_overview(study, groups, configs)
    for cell, error in overview.failed.items():
        print(f'failed: {cell.name}: {error}\n  traceback: {folder_of(study.work_dir, cell) / ERROR}')
    for name in overview.stale:
        print(f'not used: {name}: its result was made with another config; --resume makes it anew')
    everything = overview if groups == whole else make_overview(study, whole, configs)
    if not everything.results:
        print('no run succeeded: there is nothing to table')
        return 1
    written = write_report(everything)
    print(f'{study.work_dir}: {", ".join(path.name for path in written)}')
    if overview.missing:
        print(f'{overview.missing} runs are still missing')
    return int(bool(overview.failed or overview.missing))


def _placed(study: Study, work_dir: str | None, shard: Shard | None) -> Study:
    """Give each shard its own work dir, so that machines that share a disk write to different folders."""
    path = Path(work_dir) if work_dir else study.work_dir
    if shard is not None and work_dir is None:
        path = path.with_name(f'{path.name}-shard-{shard}')
    return study.model_copy(update=dict(work_dir=path))


def check_configs(study: Study, groups: Sequence[Group], configs: Configs) -> None:
    """Build the config of every group before the first run.

    Raises:
        StudyError: an option does not fit its config, or validation and test are the same data.
    """
    for group in groups:
        config = configs.of(Cell(group, group.learning_rates[0], study.seeds[0]))
        if search_cells(study, group) and not study.allow_test_as_validation:
            check_validation(group.name, config)


def plan(study: Study, groups: Sequence[Group], configs: Configs) -> Schedule:
    """Schedule the study from the results in its work dir."""
    found = find_results(study.work_dir, [cell for group in groups for cell in cells_of(study, group)], configs)
    for name in found.stale:
        print(f'{name}: its result was made with another config, and is made anew')
    return Schedule(study, groups, found.results)


def run(study: Study, groups: Sequence[Group], configs: Configs, jobs: int, threads: int) -> None:
    """Run the cells that have no result yet."""
    schedule = plan(study, groups, configs)
    pool = SameProcess() if jobs == 1 or not schedule.left else Workers(min(jobs, schedule.left), threads)
    with Progress(schedule, jobs) as progress, pool:
        run_cells(schedule, configs, study.work_dir, pool, progress, threads)


def dry_run(study: Study, groups: Sequence[Group], configs: Configs, jobs: int) -> None:
    """Print the cells, the number of runs and an estimate of the time."""
    schedule = plan(study, groups, configs)
    for group in groups:
        for cell in search_cells(study, group) or [Cell(group, group.learning_rates[0], s) for s in study.seeds]:
            print(f'{"there" if cell in schedule.results else "to run":<7} {cell.name}')
        choice = schedule.choices.get(group)
        rest = [seed for seed in study.seeds if seed not in {cell.seed for cell in search_cells(study, group)}]
        if search_cells(study, group) and rest:
            at = f'lr={choice.learning_rate:g}' if choice else 'the chosen learning rate'
            print(f'{"then":<7} {group.name}/ at {at}: seeds {", ".join(map(str, rest))}')
    left = seconds_left(schedule, jobs)
    about = f'about {clock(left)} with --jobs {jobs}' if left is not None else 'no result yet to tell the time by'
    print(f'{len(groups)} groups, {schedule.total} runs: {schedule.done} there, {schedule.left} to run, {about}')


if __name__ == '__main__':
    main()
