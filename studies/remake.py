#!/usr/bin/env python
"""Make rows of a study's table again and compare them: studies/remake.py STUDY [--number N --seed S --data-root DIR].

The rows are drawn at random from the committed results. On the same kind of processor the trained weights are equal,
bit for bit; other kinds round differently.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from protuning_lab.study import read_study
from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.grid import Cell, list_groups
from protuning_lab.study.job import run_job
from protuning_lab.study.run_loop import make_job
from protuning_mm.cli.flags import at_least
from studies.published import NEEDED, prepare
from studies.results import EvidenceError

ROOT = Path(__file__).resolve().parents[1]


def read_rows(study: str) -> list[dict[str, Any]]:
    """Read the runs of a study's table from ``docs/evidence/<study>.jsonl``, without those of the search."""
    rows = map(json.loads, (ROOT / f'docs/evidence/{study}.jsonl').read_text().splitlines())
    return [row for row in rows if '/search,' not in row['name']]


def remake(study: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Train and test a run again, with its config, learning rate, setting and seed.

    Args:
        study (str): The study.
        row (Mapping[str, Any]): A committed result of it.

    Returns:
        dict: The new result.

    Raises:
        EvidenceError: the study's config of this run has changed.
    """
    grid, labels = read_study(ROOT / f'studies/grids/{study}.py'), row['cell']
    (group,) = (group for group in list_groups(grid) if all(labels[axis] == group[axis] for axis in grid.axes))
    cell = Cell(group, labels['learning_rate'], labels['seed'], setting=labels['setting'])
    with tempfile.TemporaryDirectory() as folder:
        job = make_job(cell, ConfigBuilder(grid), Path(folder), row['threads'])
        if job.digest != row['config_hash']:
            raise EvidenceError(f'{row["name"]}: the study has another config than when this run was made')
        job.folder.mkdir(parents=True)
        return run_job(job)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make random rows of a study's table again and compare them")
    parser.add_argument('study', choices=[name for name in NEEDED if (ROOT / f'docs/evidence/{name}.csv').is_file()])
    parser.add_argument('--number', type=at_least(1), default=2, help='number of runs (default: 2)')
    parser.add_argument('--seed', type=int, default=0, help='draws the runs (default: 0)')
    parser.add_argument(
        '--data-root', type=Path, default=Path('data'), metavar='DIR', help='folder of the published data sets'
    )
    args = parser.parse_args(argv)
    for sources in prepare([args.study], args.data_root).values():
        raise SystemExit(f'error: data are missing: {sources}')
    rows = read_rows(args.study)
    for row in random.Random(args.seed).sample(rows, min(args.number, len(rows))):
        try:
            found = remake(args.study, row)
        except EvidenceError as error:
            raise SystemExit(f'error: {error}') from None
        weights = 'equal' if found['trained_weights'] == row['trained_weights'] else 'different'
        print(f'{row["name"]}: {row["test"]} before, {found["test"]} now, trained weights {weights}', flush=True)


if __name__ == '__main__':
    main()
