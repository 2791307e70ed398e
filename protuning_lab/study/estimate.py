"""How long the rest of a study takes, by what its runs took so far."""

import statistics

from protuning_lab.study.grid import Group
from protuning_lab.study.schedule import Schedule


def seconds_left(schedule: Schedule, jobs: int) -> float | None:
    """Seconds until nothing is left; None before the first result.

    A group's runs are taken to last as long as its others, and those of a group without any as long as all others.
    """
    by_group: dict[Group, list[float]] = {}
    for cell, result in schedule.results.items():
        by_group.setdefault(cell.group, []).append(float(result['seconds']))
    if not by_group:
        return None
    means = {group: statistics.fmean(seconds) for group, seconds in by_group.items()}
    overall = statistics.fmean(means.values())
    work = sum(schedule.left_of(group) * means.get(group, overall) for group in schedule.groups)
    return work / max(1, min(jobs, schedule.left))


def clock(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None:
        return 'unknown'
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60:02d} min'
