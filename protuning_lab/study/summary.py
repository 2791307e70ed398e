"""Summarizes each group: its runs at the chosen learning rate, over the seeds."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from protuning_lab.study.definition import Study
from protuning_lab.study.grid import Cell, Group
from protuning_lab.study.learning_rate_choice import LearningRateChoice, get_metric, list_final_cells, list_search_cells
from protuning_lab.study.results import Result
from protuning_lab.study.schedule import Schedule


@dataclass(frozen=True)
class Summary:
    """The runs of a group at the chosen learning rate.

    Args:
        group (Group): The group.
        choice (LearningRateChoice, optional): None if the search has not ended.
        results (list[Result]): One per seed that has a result.
        searched (list[Result]): The search runs of the choice, if they alone have valid validation metrics: with
            ``learning_rate.options``, the others may be trained on the validation data.
    """

    group: Group
    choice: LearningRateChoice | None
    results: list[Result]
    searched: list[Result] = field(default_factory=list)

    def scores(self, test: str, metric: str) -> list[float]:
        """Return a metric of a test set, one value per seed.

        Raises:
            StudyError: a result does not have the metric, or it is not a number.
        """
        return [
            get_metric(result['test'][test], metric, 'table.metric', f'test set {test!r}')
            for result in self.results
            if test in result['test']
        ]

    def validation(self, metric: str) -> list[float]:
        """Return a validation metric, one value per seed of the final runs or, if given, of the search.

        Raises:
            StudyError: a result does not have the metric, or it is not a number.
        """
        return [
            get_metric(each['val'], metric, 'learning_rate.metric', 'validation')
            for each in self.searched or self.results
        ]

    def median(self, cost: str) -> float | None:
        """Return the median of a cost over the seeds, such as ``peak_memory_mib``."""
        values = [float(result[cost]) for result in self.results if result[cost] is not None]
        return statistics.median(values) if values else None


@dataclass(frozen=True)
class Overview:
    """The results of a study, which may be incomplete.

    Args:
        study (Study): The study.
        metric (str): The test metric to show.
        summaries (list[Summary]): One per group.
        failed (dict[Cell, str]): Failed runs, each with the last line of its error.
        stale (list[str]): Names of runs whose result was made with another config.
        missing (int): Number of runs that have neither a result nor an error.
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
        """The test sets that have results, in the study's order."""
        tested = {name for result in self.results.values() for name in result['test']}
        return [name for name in self.study.test if name in tested]


def summarize_groups(schedule: Schedule) -> list[Summary]:
    """Summarize every group of a schedule."""
    summaries = []
    for group in schedule.groups:
        choice = schedule.choices.get(group)
        cells = list_final_cells(schedule.study, group, choice) if choice else []
        searched = [cell for cell in list_search_cells(schedule.study, group) if choice and cell.search]
        searched = [cell for cell in searched if cell.candidate == cells[0].candidate]
        summaries.append(Summary(group, choice, *(_known(schedule, each) for each in (cells, searched))))
    return summaries


def _known(schedule: Schedule, cells: list[Cell]) -> list[Result]:
    return [schedule.results[cell] for cell in cells if cell in schedule.results]


def choose_shown_metric(study: Study, results: Mapping[Cell, Result]) -> str:
    """Return the metric of the tables: ``table.metric`` of the study, or the first number among the test metrics."""
    if study.table.metric is not None:
        return study.table.metric
    for result in results.values():
        for metrics in result['test'].values():
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    return str(name)
    return 'metric'
