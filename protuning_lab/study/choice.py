"""The learning rate of a group, chosen by the validation metric alone."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError, meant
from protuning_lab.study.grid import Cell, Group


@dataclass(frozen=True)
class Choice:
    """The chosen learning rate.

    Args:
        learning_rate (float, optional): None is the config's own.
        at_edge (bool): Whether it is the smallest or the largest candidate.
        failed (tuple[float]): Candidates that could not be compared, because a run of theirs failed.
    """

    learning_rate: float | None
    at_edge: bool = False
    failed: tuple[float, ...] = ()


def search_cells(study: Study, group: Group) -> list[Cell]:
    """The runs that the choice needs; with one candidate there is nothing to choose."""
    if study.learning_rate is None or len(group.learning_rates) == 1:
        return []
    return [Cell(group, rate, seed) for rate in group.learning_rates for seed in study.learning_rate.seeds]


def final_cells(study: Study, group: Group, choice: Choice) -> list[Cell]:
    """The runs at the chosen learning rate, which the tables are made of."""
    return [Cell(group, choice.learning_rate, seed) for seed in study.seeds]


def choose(study: Study, group: Group, results: Mapping[Cell, Mapping[str, Any]]) -> Choice | None:
    """Compare the candidates by their mean validation metric; of equals the first in the study's list is taken.

    Args:
        study (Study): The study.
        group (Group): The group.
        results (Mapping[Cell, Result]): Whatever is known; only ``val`` of the search's cells is looked at.

    Returns:
        Choice: None where no candidate has all its runs.

    Raises:
        StudyError: the metric is not among the validation's.
    """
    rates = group.learning_rates
    wanted = study.learning_rate
    if wanted is None or len(rates) == 1:
        return Choice(rates[0])
    means: dict[float, float] = {}
    for rate in rates:
        cells = [Cell(group, rate, seed) for seed in wanted.seeds]
        if rate is not None and all(cell in results for cell in cells):
            means[rate] = statistics.fmean(_score(wanted.metric, wanted.rule, results[cell]) for cell in cells)
    if not means:
        return None
    best = max(means, key=lambda rate: means[rate])
    named = [rate for rate in rates if rate is not None]
    return Choice(best, best in (min(named), max(named)), tuple(rate for rate in named if rate not in means))


def _score(metric: str, rule: str, result: Mapping[str, Any]) -> float:
    """Higher is better; a metric that is not finite is worse than any other."""
    value = metric_of(result['val'], metric, 'learning_rate.metric', 'validation')
    return -math.inf if not math.isfinite(value) else (value if rule == 'greater' else -value)


def metric_of(metrics: Mapping[str, Any], name: str, where: str, split: str) -> float:
    """Look up a metric.

    Raises:
        StudyError: there is none of that name, or it is no number.
    """
    if name not in metrics:
        there = ', '.join(metrics) or 'none at all'
        raise StudyError(f'{where}={name!r}: the {split} reports {there}{meant(name, metrics)}')
    value = metrics[name]
    if not isinstance(value, int | float):
        raise StudyError(f'{where}={name!r}: is {value!r}, not a number')
    return float(value)
