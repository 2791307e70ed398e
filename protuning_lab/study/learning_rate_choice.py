"""Chooses the learning rate of a group by validation metrics only."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError, did_you_mean
from protuning_lab.study.grid import Cell, Group


@dataclass(frozen=True)
class LearningRateChoice:
    """The chosen learning rate.

    Args:
        learning_rate (float, optional): None stands for the config's own learning rate.
        at_edge (bool): Whether the chosen rate is the smallest or the largest candidate.
        failed (tuple[float]): Candidates that were not compared, because one of their runs failed.
    """

    learning_rate: float | None
    at_edge: bool = False
    failed: tuple[float, ...] = ()


def list_search_cells(study: Study, group: Group) -> list[Cell]:
    """Return the runs that the choice needs; none if there is only one candidate."""
    if study.learning_rate is None or len(group.learning_rates) == 1:
        return []
    apart = bool(study.learning_rate.options)
    return [Cell(group, rate, seed, apart) for rate in group.learning_rates for seed in study.learning_rate.seeds]


def list_final_cells(study: Study, group: Group, choice: LearningRateChoice) -> list[Cell]:
    """Return the runs at the chosen learning rate. The tables show these."""
    return [Cell(group, choice.learning_rate, seed) for seed in study.seeds]


def list_possible_cells(study: Study, groups: Sequence[Group]) -> list[Cell]:
    """Return every cell that groups may need, whichever learning rates are chosen."""
    cells: list[Cell] = []
    for group in groups:
        final = [Cell(group, rate, seed) for rate in group.learning_rates for seed in study.seeds]
        cells += dict.fromkeys([*final, *list_search_cells(study, group)])
    return cells


def choose_learning_rate(
    study: Study, group: Group, results: Mapping[Cell, Mapping[str, Any]]
) -> LearningRateChoice | None:
    """Choose the candidate with the best mean validation metric; of equal candidates, the first in the study's list.

    Args:
        study (Study): The study.
        group (Group): The group.
        results (Mapping[Cell, Result]): The known results. Only ``val`` of the search cells is read.

    Returns:
        LearningRateChoice: None if no candidate has all its runs.

    Raises:
        StudyError: the validation did not report the metric, or the metric is not a number.
    """
    rates = group.learning_rates
    search = study.learning_rate
    if search is None or len(rates) == 1:
        return LearningRateChoice(rates[0])
    means: dict[float, float] = {}
    for rate in rates:
        cells = [cell for cell in list_search_cells(study, group) if cell.learning_rate == rate]
        if rate is not None and all(cell in results for cell in cells):
            means[rate] = statistics.fmean(_score(search.metric, search.rule, results[cell]) for cell in cells)
    if not means:
        return None
    best = max(means, key=lambda rate: means[rate])
    named = [rate for rate in rates if rate is not None]
    return LearningRateChoice(
        best, best in (min(named), max(named)), tuple(rate for rate in named if rate not in means)
    )


def _score(metric: str, rule: str, result: Mapping[str, Any]) -> float:
    """Return a score: higher is better, and a metric that is not finite gets the lowest score."""
    value = get_metric(result['val'], metric, 'learning_rate.metric', 'validation')
    return -math.inf if not math.isfinite(value) else (value if rule == 'greater' else -value)


def get_metric(metrics: Mapping[str, Any], name: str, where: str, split: str) -> float:
    """Return a metric by name.

    Args:
        metrics (Mapping[str, Any]): Reported metrics.
        name (str): The metric's name.
        where (str): The study's key that names the metric, for error messages.
        split (str): The split that reported the metrics, for error messages.

    Raises:
        StudyError: the metric is missing or not a number.
    """
    if name not in metrics:
        reported = ', '.join(metrics) or 'no metric'
        raise StudyError(f'{where}={name!r}: the {split} reports {reported}{did_you_mean(name, metrics)}')
    value = metrics[name]
    if not isinstance(value, int | float):
        raise StudyError(f'{where}={name!r}: the value is {value!r}, not a number')
    return float(value)
