"""What is told of a group: its runs at the chosen learning rate, over the seeds."""

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
        choice (Choice, optional): None where none could be made yet.
        results (list[Result]): One a seed; those that are missing are not there.
    """

    group: Group
    choice: Choice | None
    results: list[Result]

    def scores(self, test: str, metric: str) -> list[float]:
        """A test metric, one value a seed."""
        return [
            metric_of(result['test'][test], metric, 'table.metric', f'test set {test!r}')
            for result in self.results
            if test in result['test']
        ]

    def validation(self, metric: str) -> list[float]:
        """A validation metric, one value a seed."""
        return [metric_of(each['val'], metric, 'learning_rate.metric', 'validation') for each in self.results]

    def median(self, cost: str) -> float | None:
        """The median of something measured, such as ``peak_memory_mib``, over the seeds."""
        values = [float(result[cost]) for result in self.results if result[cost] is not None]
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Overview:
    """A study's results, as far as they are there.

    Args:
        study (Study): The study.
        metric (str): The test metric that is shown.
        summaries (list[Summary]): One a group.
        failed (dict[Cell, str]): Runs that failed, and their error's last line.
        stale (list[str]): Runs whose result was made with another config.
        missing (int): Runs that are neither there nor failed.
        results (dict[Cell, Result]): All results that fit the study.
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
        """The test sets that any run was tested on, in the study's order."""
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
    """The metric of the tables: the study's, or else the first number that a test reports."""
    if study.table.metric is not None:
        return study.table.metric
    for result in results.values():
        for metrics in result['test'].values():
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    return str(name)
    return 'metric'


def cells_of(study: Study, group: Group) -> list[Cell]:
    """Every run that a group may need, whatever is chosen."""
    seeds = dict.fromkeys([*study.seeds, *(cell.seed for cell in search_cells(study, group))])
    return [Cell(group, rate, seed) for rate in group.learning_rates for seed in seeds]
