"""All that is made of a study's results."""

from collections.abc import Sequence

from protuning_mm.apis.study.configs import Configs
from protuning_mm.apis.study.definition import Study
from protuning_mm.apis.study.grid import Cell, Group
from protuning_mm.apis.study.results import find_results
from protuning_mm.apis.study.schedule import Schedule
from protuning_mm.apis.study.tidy import tidy_rows, write_tidy


def write_report(study: Study, groups: Sequence[Group], configs: Configs) -> int:
    seeds = list(dict.fromkeys([*study.seeds, *(study.learning_rate.seeds if study.learning_rate else ())]))
    cells = [Cell(group, rate, seed) for group in groups for rate in group.learning_rates for seed in seeds]
    found = find_results(study.work_dir, cells, configs)
    schedule = Schedule(study, groups, found.results)
    for path in write_tidy(study.work_dir, list(tidy_rows(study, found.results, schedule.choices))):
        print(path)
    for cell, error in found.failed.items():
        print(f'failed: {cell.name}: {error}')
    return int(schedule.left > 0)
