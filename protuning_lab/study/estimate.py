"""Estimates how long the rest of a study takes from the runs that have finished."""

import statistics

from protuning_lab.study.grid import Group
from protuning_lab.study.schedule import Schedule


def estimate_seconds_left(schedule: Schedule, jobs: int) -> float | None:
    """Estimate the seconds until all runs have finished; None before the first result.

    A run counts with the mean time of its group, or with the mean over groups if its group has no result yet.
    """
    by_group: dict[Group, list[float]] = {}
    for cell, result in schedule.results.items():
        by_group.setdefault(cell.group, []).append(float(result['seconds']))
    if not by_group:
        return None
    means = {group: statistics.fmean(seconds) for group, seconds in by_group.items()}
    overall = statistics.fmean(means.values())
    work = sum(schedule.count_left(group) * means.get(group, overall) for group in schedule.groups)
    return work / max(1, min(jobs, schedule.left))


def format_duration(seconds: float | None) -> str:
    """Format seconds as ``12 s``, ``5 min`` or ``2 h 30 min``."""
    if seconds is None:
        return 'unknown'
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60:02d} min'
