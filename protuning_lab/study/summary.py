"""Summarises groups: their runs at the chosen learning rate over the seeds."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from protuning_lab.study.choice import Choice, final_cells, metric_of, search_cells
from protuning_lab.study.definition import Study
from protuning_lab.study.grid import Cell, Group
from protuning_lab.study.results import Result
from protuning_lab.study.schedule import Schedule


@dataclass(frozen=True)
class Summary:
    """A group's runs at the chosen learning rate.

    Args:
        group (Group): The group.
        choice (Choice, optional): None if the search has not ended.
        results (list[Result]): One for each seed that has a result.
    """

    group: Group
    choice: Choice | None
    results: list[Result]

    def scores(self, test: str, metric: str) -> list[float]:
        """Return a test metric for each seed."""
        return [
            metric_of(result['test'][test], metric, 'table.metric', f'test set {test!r}')
            for result in self.results
            if test in result['test']
        ]

    def validation(self, metric: str) -> list[float]:
        """Return a validation metric for each seed."""
        return [metric_of(each['val'], metric, 'learning_rate.metric', 'validation') for each in self.results]

    def median(self, cost: str) -> float | None:
        """Return the median of a cost over the seeds, such as ``peak_memory_mib``."""
        values = [float(result[cost]) for result in self.results if result[cost] is not None]
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Overview:
    """The results of a study that may not be complete.

    Args:
        study (Study): The study.
        metric (str): The test metric to show.
        summaries (list[Summary]): One for each group.
        failed (dict[Cell, str]): Failed runs, each with the last line of its error.
        stale (list[str]): Runs whose result belongs to another config.
        missing (int): Number of runs without result or error.
        results (dict[Cell, Result]): All results of the current config.
    """

    study: Study
    metric: str
    summaries: list[Summary]
    failed: dict[Cell, str]
    stale: list[str]
    missing: int
    results: dict[Cell, Result]

    @property
    def tests(self) -> list[str]:
        """The test sets of the results, in the study's order."""
        there = {name for result in self.results.values() for name in result['test']}
        return [name for name in self.study.test if name in there]


def summarise(schedule: Schedule) -> list[Summary]:
    """Gather every group's runs at its chosen learning rate."""
    summaries = []
    for group in schedule.groups:
        choice = schedule.choices.get(group)
        cells = final_cells(schedule.study, group, choice) if choice else []
        summaries.append(Summary(group, choice, [schedule.results[cell] for cell in cells if cell in schedule.results]))
    return summaries


def shown_metric(study: Study, results: Mapping[Cell, Result]) -> str:
    """Return the metric of the tables: the study's, or the first number among the test metrics."""
    if study.table.metric is not None:
        return study.table.metric
    for result in results.values():
        for metrics in result['test'].values():
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    return str(name)
    return 'metric'


def cells_of(study: Study, group: Group) -> list[Cell]:
    """Return every cell that a group may need, for any choice."""
    seeds = dict.fromkeys([*study.seeds, *(cell.seed for cell in search_cells(study, group))])
    return [Cell(group, rate, seed) for rate in group.learning_rates for seed in seeds]
