#!/usr/bin/env python
"""Measure step time and memory of a study's rows: studies/costs.py STUDY [--only axis=value …] [--rounds N].

The runs of a study share a machine, so their times depend on each other. Here one process with one thread takes a step
of each row in turn, at the chosen learning rate and setting.
"""

import argparse
import csv
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from protuning_lab.measure import interleaved_times
from protuning_lab.study import read_study
from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.grid import Cell, Group, list_groups, select_groups
from protuning_lab.study.measurement_hook import MeasurementHook, measure_training_memory
from protuning_lab.study.minimal_runner import build_minimal_runner, make_minimal_config
from protuning_mm.cli.flags import at_least
from protuning_mm.weights.atomic import write_atomically
from studies.results import EvidenceError, Measured, read_results

ROOT = Path(__file__).resolve().parents[1]
# the studies to measure; other targets on EfficientNet-Lite0 differ in their images only
MEASURED = ('lite', 'bccd', 'camvid')
_STEPS = 2  # of training, before the measurement


def measure(name: str, only: Sequence[str], results: Measured, rounds: int = 21) -> list[dict[str, Any]]:
    """Measure the groups of a study.

    Args:
        name (str): The study.
        only (Sequence[str]): Groups to measure, as ``--only`` of a study takes them; all if empty.
        results (Measured): Its results, with the chosen learning rate and setting of each group.
        rounds (int): Number of timed steps. Defaults to 21.

    Returns:
        list[dict]: For each group: axes, ``setting``, ``peak_memory_mib`` and ``step_seconds`` (the median).

    Raises:
        EvidenceError: nothing was chosen for a group.
    """
    study = read_study(ROOT / f'studies/grids/{name}.py')
    configs, groups = ConfigBuilder(study), select_groups(study, list_groups(study), only)
    runners: dict[Group, tuple[Any, MeasurementHook]] = {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for group in groups:
            rate, setting = results.chosen(dict(group.values))
            cfg = configs.build(Cell(group, rate, study.seeds[0], setting=setting or None)).cfg
            runner, hook = _train(cfg, folder, group)
            runners[group] = runner, hook
            rows.append({**dict(group.values), 'setting': setting})
        steps = {group.name: _time_step(*found) for group, found in runners.items()}
        times = interleaved_times(steps, rounds)
        for row, (group, (runner, hook)) in zip(rows, runners.items()):
            row |= dict(
                peak_memory_mib=measure_training_memory(runner, hook),
                step_seconds=statistics.median(times[group.name]['step']),
            )
    return rows


def _train(cfg: Any, folder: str, group: Group) -> tuple[Any, MeasurementHook]:
    """Train two steps, so that weights and optimizer state exist."""
    cfg.train_cfg.max_iters, cfg.train_cfg.val_interval = _STEPS, _STEPS + 1
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    runner = build_minimal_runner(make_minimal_config(cfg, str(Path(folder) / group.name), 'end', False))
    hook = MeasurementHook()
    runner.register_hook(hook)
    runner.train()
    return runner, hook


def _time_step(runner: Any, hook: MeasurementHook) -> Callable[[], Mapping[str, float]]:
    def step() -> dict[str, float]:
        runner.model.train()
        start = time.perf_counter()
        runner.model.train_step(hook.batch, optim_wrapper=runner.optim_wrapper)
        return dict(step=time.perf_counter() - start)

    return step


def write_costs(name: str, docs: Path, only: Sequence[str] = (), rounds: int = 21) -> Path:
    """Measure a study and write ``<docs>/evidence/<study>_costs.csv``."""
    import torch

    layout = read_study(ROOT / f'studies/grids/{name}.py').table
    results = read_results(name, docs / f'evidence/{name}.csv', layout.rows, layout.metric or '')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = measure(name, only, results, rounds)
    finally:
        torch.set_num_threads(threads)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    path = docs / f'evidence/{name}_costs.csv'
    write_atomically(text.getvalue().encode(), path)
    return path


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description='Measure step time and memory of the rows of a study')
    parser.add_argument('study', choices=MEASURED)
    parser.add_argument('--only', nargs='+', metavar='AXIS=VALUE', help='groups to measure, as study.py takes them')
    parser.add_argument('--rounds', type=at_least(1), default=21, help='number of timed steps (default: 21)')
    parser.add_argument('--docs', type=Path, default=ROOT / 'docs', help='folder of the page')
    args = parser.parse_args(argv)
    try:
        print(write_costs(args.study, args.docs, args.only or (), args.rounds))
    except EvidenceError as error:
        raise SystemExit(f'error: {error}') from None


if __name__ == '__main__':
    main()
