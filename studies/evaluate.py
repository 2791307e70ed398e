#!/usr/bin/env python
"""Test a committed delta of the study lite.py, without training: studies/evaluate.py TUNING [--data-root DIR].

The model is built from the study's config; the delta contains what was trained.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config

from protuning_lab.study import read_study
from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.grid import Cell, list_groups
from protuning_lab.study.minimal_runner import build_minimal_runner, make_minimal_config
from protuning_mm.patches import prepare_process
from studies.published import prepare
from studies.results import read_results

ROOT = Path(__file__).resolve().parents[1]
DELTAS = ROOT / 'docs/evidence/deltas'
METRIC = 'accuracy/top1'


def build_tester(study: str, labels: Mapping[str, Any], delta: Path, folder: str) -> Any:
    """Build the runner that tests a delta; it loads the delta when its test begins.

    Args:
        study (str): A study in ``studies/grids``.
        labels (Mapping[str, Any]): A value of each of its axes, such as the tuning. The learning rate and setting are
            those of ``docs/evidence/<study>.csv``.
        delta (Path): The delta.
        folder (str): Work dir of the runner.
    """
    grid = read_study(ROOT / f'studies/grids/{study}.py')
    (group,) = (group for group in list_groups(grid) if all(group[axis] == labels[axis] for axis in grid.axes))
    results = read_results(study, ROOT / f'docs/evidence/{study}.csv', grid.table.rows, grid.table.metric or '')
    rate, setting = results.chosen(dict(group.values))
    built = ConfigBuilder(grid).build(Cell(group, rate, 0, setting=setting or None))
    cfg = make_minimal_config(built.cfg, folder, 'end', False)
    cfg.merge_from_dict(Config(dict(built.tests['test'])).to_dict())
    cfg.load_from = str(delta)
    prepare_process(cfg.default_scope)
    return build_minimal_runner(cfg)


def evaluate(tuning: str, delta: Path) -> tuple[float, float]:
    """Test a delta on the 2,000 test images of CIFAR-10.

    Args:
        tuning (str): The tuning, as ``studies/grids/lite.py`` names it.
        delta (Path): The delta.

    Returns:
        tuple[float, float]: The accuracy, and that of seed 0 in ``docs/evidence/lite.csv``.
    """
    labels = dict(target='cifar10', tuning=tuning)
    with tempfile.TemporaryDirectory() as folder:
        found = build_tester('lite', labels, delta, folder).test()[METRIC]
    return float(found), read_results('lite', ROOT / 'docs/evidence/lite.csv').scores(labels)[0]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Test a delta of the study on EfficientNet-Lite0 without training')
    names = sorted(path.stem.removeprefix('cifar10_') for path in DELTAS.glob('cifar10_*.pth'))
    parser.add_argument('tuning', choices=names)
    parser.add_argument(
        '--data-root', type=Path, default=Path('data'), metavar='DIR', help='folder of the published data sets'
    )
    args = parser.parse_args(argv)
    for sources in prepare(['lite'], args.data_root).values():
        raise SystemExit(f'error: data are missing: {sources}')
    found, expected = evaluate(args.tuning, DELTAS / f'cifar10_{args.tuning}.pth')
    print(f'{args.tuning}: {found:.2f} %, in the study {expected:.2f} %')


if __name__ == '__main__':
    main()
