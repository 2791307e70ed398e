"""``tools/doctor.py``: what is wrong with a config, told before hours are spent on it."""

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

import torch

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_device, at_least
from protuning_mm.cli.run_config import add_common_arguments, load_config
from protuning_mm.doctor.case import Case
from protuning_mm.doctor.examination import Report, examine
from protuning_mm.doctor.findings import Finding, first_line
from protuning_mm.doctor.table import as_dict, as_text


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Examine a config before it is trained',
        epilog='Exit code: 0 without errors, 1 with an error (--strict: or a warning), 2 where the flags are wrong.',
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--data', action='store_true', help="read the data sets' annotations, images and label maps")
    parser.add_argument(
        '--max-images', type=at_least(1), metavar='N', help='decode N images of each data set, evenly spread'
    )
    parser.add_argument(
        '--gpus', type=at_least(1), help='processes that the training will have; WORLD_SIZE, or all GPUs here'
    )
    parser.add_argument('--no-step', action='store_true', help='run no training step: no memory, no gradients')
    add_device(parser, 'cpu')
    parser.add_argument('--strict', action='store_true', help='exit with 1 on warnings too')
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    add_common_arguments(parser)
    return parser.parse_args(argv)


def diagnose(args: argparse.Namespace) -> Report:
    """Read the config that the flags name and examine it; a config that cannot be read is a finding."""
    try:
        cfg: Any = load_config(args)
    except (Exception, SystemExit) as error:
        text = str(error).removeprefix('error: ') if isinstance(error, SystemExit) else first_line(error)
        return Report([Finding('error', args.config, f'the config cannot be read: {text}', 'mend it')])
    case = Case(cfg, gpus=args.gpus or _processes(args.launcher), device=args.device)
    return examine(case, args.data, args.max_images, not args.no_step)


def _processes(launcher: str) -> int:
    if launcher == 'none':
        return 1
    return int(os.environ.get('WORLD_SIZE') or max(torch.cuda.device_count(), 1))


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # torch's profiler chats on standard error
    report = diagnose(args)
    bad = report.count('error') + (report.count('warning') if args.strict else 0)
    if args.json:
        print(json.dumps(dict(config=args.config, **as_dict(report), exit_code=int(bad > 0)), indent=2))
    else:
        print(as_text(report))
    if bad:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
