"""Chooses the learning rate and the setting of a group by validation metrics only."""

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
    """The chosen learning rate and setting.

    Args:
        learning_rate (float, optional): None stands for the config's own learning rate.
        at_edge (bool): Whether the chosen rate is the smallest or the largest candidate.
        failed (tuple[tuple]): Pairs of learning rate and setting that were not compared, because a run failed.
        setting (str, optional): The name of the chosen setting. None if the group has no settings.
    """

    learning_rate: float | None
    at_edge: bool = False
    failed: tuple[tuple[float | None, str | None], ...] = ()
    setting: str | None = None


def list_search_cells(study: Study, group: Group) -> list[Cell]:
    """Return the runs that the choice needs; none if there is only one candidate."""
    if study.learning_rate is None or len(group.candidates) == 1:
        return []
    apart = bool(study.learning_rate.options)
    return [
        Cell(group, rate, seed, apart, setting)
        for rate, setting in group.candidates
        for seed in study.learning_rate.seeds
    ]


def list_final_cells(study: Study, group: Group, choice: LearningRateChoice) -> list[Cell]:
    """Return the runs at the chosen learning rate and setting. The tables show these."""
    return [Cell(group, choice.learning_rate, seed, setting=choice.setting) for seed in study.seeds]


def list_possible_cells(study: Study, groups: Sequence[Group]) -> list[Cell]:
    """Return every cell that groups may need, whichever candidates are chosen."""
    cells: list[Cell] = []
    for group in groups:
        final = [Cell(group, rate, seed, setting=setting) for rate, setting in group.candidates for seed in study.seeds]
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
    search, candidates = study.learning_rate, group.candidates
    if search is None or len(candidates) == 1:
        rate, setting = candidates[0]
        return LearningRateChoice(rate, setting=setting)
    means: dict[tuple[float | None, str | None], float] = {}
    for candidate in candidates:
        cells = [each for each in list_search_cells(study, group) if (each.learning_rate, each.setting) == candidate]
        if all(cell in results for cell in cells):
            means[candidate] = statistics.fmean(_score(search.metric, search.rule, results[cell]) for cell in cells)
    if not means:
        return None
    rate, setting = max(means, key=lambda candidate: means[candidate])
    named = [each for each in group.learning_rates if each is not None]
    at_edge = len(named) > 1 and rate in (min(named), max(named))
    return LearningRateChoice(rate, at_edge, tuple(each for each in candidates if each not in means), setting)


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
