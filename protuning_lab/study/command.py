"""``tools/study.py``: run a grid of trainings from one file."""

import argparse
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.estimate import estimate_seconds_left, format_duration
from protuning_lab.study.grid import Cell, Group, Shard, list_groups, parse_shard, select_groups
from protuning_lab.study.learning_rate_choice import list_final_cells, list_search_cells
from protuning_lab.study.progress import Progress
from protuning_lab.study.report import make_overview, write_report
from protuning_lab.study.result_merging import merge_results
from protuning_lab.study.results import ERROR, cell_folder, find_results, has_results
from protuning_lab.study.run_loop import run_cells
from protuning_lab.study.schedule import Schedule
from protuning_lab.study.study_file import read_study
from protuning_lab.study.validation_data import check_validation_data
from protuning_lab.study.workers import SameProcess, Workers
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_cfg_options, at_least
from protuning_mm.engine.work_dir import lock_work_dir


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Run a grid of trainings and write tables, plots and an HTML page',
        epilog='Exit code: 0 if every run succeeded, 1 if one failed or the study has an error, 130 after Ctrl-C.',
    )
    parser.add_argument('study', help="path of the study's file; docs/study.md describes its keys")
    parser.add_argument('--work-dir', help='output folder (default: work_dir of the study)')
    parser.add_argument(
        '--jobs', type=at_least(1), default=1, metavar='N', help='number of worker processes (default: 1)'
    )
    parser.add_argument(
        '--threads',
        type=at_least(1),
        default=1,
        metavar='N',
        help='number of torch threads per process (default: 1)',
    )
    parser.add_argument('--resume', action='store_true', help='continue; keep finished runs of the same config')
    parser.add_argument('--dry-run', action='store_true', help='only print the runs and the estimated time')
    parser.add_argument('--report', action='store_true', help='only write tables, plots and page again')
    parser.add_argument('--merge', nargs='+', metavar='DIR', help='only copy results from work dirs or results.jsonl')
    parser.add_argument('--shard', metavar='I/N', help='run part I of N; slurm/N uses the SLURM array task ID as I')
    parser.add_argument(
        '--only', nargs='+', metavar='AXIS=VALUE[,VALUE]', default=[], help='run only these values of an axis'
    )
    add_cfg_options(parser, 'settings that override the config of every run')
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
        code = run_command(args)
    except KeyboardInterrupt:
        print('stopped. Finished runs are kept; to continue, run the same command with --resume')
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    if code:
        raise SystemExit(code)


def _interrupt(*_: object) -> NoReturn:
    """Handle SIGTERM like Ctrl-C, so that the workers end as well."""
    raise KeyboardInterrupt


def run_command(args: argparse.Namespace) -> int:
    """Run, merge or report a study, as the flags say.

    Returns:
        int: The exit code: 1 if runs failed or are missing, or if ``--merge`` found conflicts.

    Raises:
        StudyError: the study, its configs or its work dir are invalid.
    """
    shard = parse_shard(args.shard) if args.shard else None
    study = _set_work_dir(read_study(args.study), args.work_dir, shard)
    configs = ConfigBuilder(study, args.cfg_options)
    all_groups = list_groups(study)
    groups = select_groups(study, all_groups, args.only)
    if args.merge is not None:
        conflicts = merge_results(study, groups, configs, [Path(name) for name in args.merge])
        for line in conflicts:
            print(line)
        return report_results(study, groups, configs, all_groups) or int(bool(conflicts))
    selected = shard.select(groups) if shard else groups
    if args.report:
        return report_results(study, selected, configs, selected if shard else all_groups)
    check_configs(study, groups, configs)
    if args.dry_run:
        print_dry_run(study, selected, configs, args.jobs)
        return 0
    if has_results(study.work_dir) and not args.resume:
        raise StudyError(
            f'work dir {str(study.work_dir)!r} contains results: continue with --resume, write tables with --report, '
            'or choose another --work-dir'
        )
    with lock_work_dir(study.work_dir):
        run_missing_cells(study, selected, configs, args.jobs, args.threads)
        return report_results(study, selected, configs, selected if shard else all_groups)


def report_results(study: Study, groups: Sequence[Group], configs: ConfigBuilder, all_groups: Sequence[Group]) -> int:
    """Write tables, plots and page of all groups, and print failed runs; return 1 if runs of ``groups`` are missing."""
    overview = make_overview(study, groups, configs)
    for cell, error in overview.failed.items():
        print(f'failed: {cell.name}: {error}\n  traceback: {cell_folder(study.work_dir, cell) / ERROR}')
    for name in overview.stale:
        print(f'ignored: {name}: its result was made with another config; --resume runs it again')
    whole = overview if groups == all_groups else make_overview(study, all_groups, configs)
    if not whole.results:
        print('no run succeeded, so there are no tables to write')
        return 1
    written = write_report(whole)
    print(f'{study.work_dir}: {", ".join(path.name for path in written)}')
    if overview.missing:
        print(f'{overview.missing} runs are still missing')
    return int(bool(overview.failed or overview.missing))


def _set_work_dir(study: Study, work_dir: str | None, shard: Shard | None) -> Study:
    """Set the work dir; each shard gets its own, so that machines with a shared disk write to different folders."""
    path = Path(work_dir) if work_dir else study.work_dir
    if shard is not None and work_dir is None:
        path = path.with_name(f'{path.name}-shard-{shard}')
    return study.model_copy(update=dict(work_dir=path))


def check_configs(study: Study, groups: Sequence[Group], configs: ConfigBuilder) -> None:
    """Build the config of every group before the first run, to find errors early.

    Raises:
        StudyError: an option does not fit its config, or validation and test use the same data.
    """
    for group in groups:
        for setting in group.settings:
            configs.build(Cell(group, group.learning_rates[0], study.seeds[0], setting=setting))
        search = list_search_cells(study, group)
        if search and not study.allow_test_as_validation:
            check_validation_data(group.name, configs.build(search[0]))


def make_schedule(study: Study, groups: Sequence[Group], configs: ConfigBuilder) -> Schedule:
    """Make the schedule of a study, with the results in its work dir."""
    found = find_results(study, groups, configs)
    for name in found.stale:
        print(f'{name}: its result was made with another config; it will run again')
    return Schedule(study, groups, found.results)


def run_missing_cells(study: Study, groups: Sequence[Group], configs: ConfigBuilder, jobs: int, threads: int) -> None:
    """Run the cells that have no result yet."""
    schedule = make_schedule(study, groups, configs)
    pool = SameProcess() if jobs == 1 or not schedule.left else Workers(min(jobs, schedule.left), threads)
    with Progress(schedule, jobs) as progress, pool:
        run_cells(schedule, configs, study.work_dir, pool, progress, threads)


def print_dry_run(study: Study, groups: Sequence[Group], configs: ConfigBuilder, jobs: int) -> None:
    """Print the cells, the number of runs and the estimated time."""
    schedule = make_schedule(study, groups, configs)
    for group in groups:
        for cell in list_search_cells(study, group) or [Cell(group, group.learning_rates[0], s) for s in study.seeds]:
            print(f'{"done" if cell in schedule.results else "to run":<7} {cell.name}')
        choice = schedule.choices.get(group)
        search = list_search_cells(study, group)
        rest = [seed for seed in study.seeds if seed not in {cell.seed for cell in search if not cell.search}]
        if search and rest:
            rate = list_final_cells(study, group, choice)[0].candidate if choice else 'the chosen candidate'
            print(f'{"then":<7} {group.name}/ at {rate}: seeds {", ".join(map(str, rest))}')
    left = estimate_seconds_left(schedule, jobs)
    about = 'no finished run to estimate the time from'
    if left is not None:
        about = f'about {format_duration(left)} with --jobs {jobs}'
    print(f'{len(groups)} groups, {schedule.total} runs: {schedule.done} done, {schedule.left} to run, {about}')


if __name__ == '__main__':
    main()
