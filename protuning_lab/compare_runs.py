"""``tools/analysis_tools/compare_runs.py``: train variants of a config over several seeds, and compare one metric."""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import at_least
from protuning_mm.engine.config import read_config

_TRAIN_CODE = 'from protuning_mm.cli.train import main; main()'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train variants of a config over several seeds, and print a table of one metric',
        epilog='example: compare_runs.py configs/det/htc_r50_protune_demo.py --metric coco/segm_mAP --seeds 0 1 '
        "--variant 'no norm' model.backbone.prompt.norm_cfg=None --variant BN model.backbone.prompt.norm_cfg.type=BN",
    )
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--metric', required=True, help='metric to compare, such as coco/segm_mAP or mIoU')
    parser.add_argument(
        '--seeds', type=at_least(0), nargs='+', default=[0], help='one run per variant and seed (default: 0)'
    )
    parser.add_argument(
        '--variant',
        action='append',
        nargs='+',
        required=True,
        metavar=('NAME', 'KEY=VALUE'),
        help='name of a variant and the settings that it overrides; repeat for each variant',
    )
    parser.add_argument(
        '--work-dir', default='work_dirs/compare_runs', help='folder for the runs (default: work_dirs/compare_runs)'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], help='settings that override the config of all variants'
    )
    return parser.parse_args(argv)


def train_variant(args: argparse.Namespace, name: str, options: Sequence[str], seed: int) -> float:
    """Train one variant with one seed, unless that was done before; return the last value of the metric.

    Raises:
        SystemExit: the run failed, or its log does not contain the metric.
    """
    work_dir = Path(args.work_dir) / f'{name.replace(" ", "_")}_seed{seed}'
    done = work_dir / 'metric.json'
    if not done.exists():
        options = [*args.cfg_options, *options, f'randomness.seed={seed}']
        command = [sys.executable, '-c', _TRAIN_CODE, args.config, '--work-dir', str(work_dir)]
        work_dir.mkdir(parents=True, exist_ok=True)
        with (work_dir / 'printed.log').open('w') as log:
            command += ['--cfg-options', *options]
            code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
        if code:
            raise SystemExit(f'error: {name!r}, seed {seed} failed: see {work_dir}/printed.log')
        newest = max(work_dir.glob('*/vis_data/scalars.json'), key=lambda path: path.stat().st_mtime)
        values = [line[args.metric] for line in map(json.loads, newest.open()) if args.metric in line]
        if not values:
            raise SystemExit(f'error: {newest} does not contain {args.metric!r}')
        done.write_text(json.dumps(values[-1]))
    return float(json.loads(done.read_text()))


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    read_config(args.config)  # to find errors before the first run
    print(f'| variant | {args.metric}, mean of {len(args.seeds)} seeds | each |\n|---|---:|---|', flush=True)
    for name, *options in args.variant:
        values = [train_variant(args, name, options, seed) for seed in args.seeds]
        each = ', '.join(f'{value:.3f}' for value in values)
        print(f'| {name} | {statistics.mean(values):.3f} | {each} |', flush=True)


if __name__ == '__main__':
    main()
