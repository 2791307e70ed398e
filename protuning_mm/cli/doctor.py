"""``tools/doctor.py``: check a config before training."""

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

import torch

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_device, at_least
from protuning_mm.cli.run_config import add_common_arguments, load_config
from protuning_mm.doctor.checks import Report, run_checks
from protuning_mm.doctor.findings import Finding, describe_error
from protuning_mm.doctor.report_formats import format_report, report_to_dict
from protuning_mm.doctor.training_setup import TrainingSetup


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Check a config, its model and its data before training',
        epilog='Exit code: 0 without errors, 1 with an error (with --strict also a warning), 2 if the flags are wrong.',
    )
    parser.add_argument('--data', action='store_true', help='also check annotations, images and label maps')
    parser.add_argument(
        '--max-images', type=at_least(1), metavar='N', help='decode only N images of each data set, evenly spread'
    )
    parser.add_argument(
        '--gpus',
        type=at_least(1),
        metavar='N',
        help='number of processes that training will have; with a launcher it defaults to WORLD_SIZE or the number of '
        'GPUs, otherwise to 1',
    )
    parser.add_argument('--no-step', action='store_true', help='skip the trial step, and with it gradients and memory')
    add_device(parser, 'cpu')
    parser.add_argument('--strict', action='store_true', help='exit with 1 on warnings, too')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    add_common_arguments(parser)
    return parser.parse_args(argv)


def diagnose(args: argparse.Namespace) -> Report:
    """Read and check the config that the flags name; a config that cannot be read is reported as a finding."""
    try:
        cfg: Any = load_config(args)
    except (Exception, SystemExit) as error:
        text = str(error).removeprefix('error: ') if isinstance(error, SystemExit) else describe_error(error)
        return Report([Finding('error', args.config, f'the config cannot be read: {text}', 'correct the config')])
    setup = TrainingSetup(cfg, gpus=args.gpus or _count_processes(args.launcher), device=args.device)
    return run_checks(setup, args.data, args.max_images, not args.no_step)


def _count_processes(launcher: str) -> int:
    if launcher == 'none':
        return 1
    return int(os.environ.get('WORLD_SIZE') or max(torch.cuda.device_count(), 1))


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # silences torch's profiler
    report = diagnose(args)
    failures = report.count('error') + (report.count('warning') if args.strict else 0)
    if args.json:
        print(json.dumps(dict(config=args.config, **report_to_dict(report), exit_code=int(failures > 0)), indent=2))
    else:
        print(format_report(report))
    if failures:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
