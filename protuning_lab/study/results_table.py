"""Writes ``results.csv``: one row for each run, data set and metric."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from protuning_lab.study.definition import COSTS, Study
from protuning_lab.study.grid import Cell, Group
from protuning_lab.study.learning_rate_choice import LearningRateChoice, list_final_cells
from protuning_lab.study.results import Result
from protuning_mm.weights.atomic import write_atomically


def result_rows(
    study: Study, results: Mapping[Cell, Result], choices: Mapping[Group, LearningRateChoice]
) -> Iterator[dict[str, Any]]:
    """Yield one row for each run, data set and metric.

    A run whose learning rate was not chosen has only validation metrics, so that nobody can select a learning rate by
    the test metrics in this table.

    Args:
        study (Study): The study.
        results (Mapping[Cell, Result]): The results of its cells.
        choices (Mapping[Group, LearningRateChoice]): The chosen learning rate of each group.
    """
    for cell, result in results.items():
        choice = choices.get(cell.group)
        chosen = choice is not None and cell in list_final_cells(study, cell.group, choice)
        run: dict[str, Any] = dict(cell.group.values)
        run |= dict(learning_rate=cell.learning_rate, setting=cell.setting or '', seed=cell.seed, chosen=chosen)
        costs = {name: result[name] for name in COSTS} | dict(device=result['machine']['device'])
        sets = [('val', '', result['val'])]
        sets += [('test', name, metrics) for name, metrics in result['test'].items()] if chosen else []
        for split, name, metrics in sets:
            for metric, value in _iterate_scalars(metrics):
                yield run | dict(split=split, set=name, metric=metric, value=value) | costs


def _iterate_scalars(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the metrics that are numbers; a list of numbers yields one metric per index."""
    for name, value in metrics.items():
        if isinstance(value, int | float):
            yield name, value
        elif isinstance(value, list):
            yield from ((f'{name}[{i}]', each) for i, each in enumerate(value) if isinstance(each, int | float))


def write_results_table(work_dir: Path, rows: list[dict[str, Any]]) -> list[Path]:
    """Write ``results.csv``, and also ``results.parquet`` if pyarrow is installed."""
    import pandas

    table = pandas.DataFrame(rows)
    written = [work_dir / 'results.csv']
    write_atomically(table.to_csv(index=False).encode(), written[0])
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return written
    written.append(work_dir / 'results.parquet')
    write_atomically(table.to_parquet(index=False), written[1])
    return written
