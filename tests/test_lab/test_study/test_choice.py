"""Learning rates are chosen by validation metrics only; the remaining seeds run at the chosen rate."""

import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.definition import Study
from protuning_lab.study.errors import StudyError
from protuning_lab.study.grid import Cell, Group, list_groups
from protuning_lab.study.learning_rate_choice import choose_learning_rate, list_possible_cells, list_search_cells
from protuning_lab.study.results_table import result_rows
from protuning_lab.study.schedule import Schedule
from protuning_lab.study.summary import summarize_groups
from tests.test_lab.test_study.fake import fake_result, make_study

RATES = (0.001, 0.01, 0.1)
STUDY = """
config = 'base.py'
axes = dict(tuning=dict(pro={{}}, linear={{}}))
learning_rate = dict(values=(0.001, 0.01, 0.1), seeds={seeds}, metric='accuracy/top1', rule='{rule}')
seeds = (0, 1, 2)
"""


def study_of(folder: Path, seeds: str = '(0,)', rule: str = 'greater') -> tuple[Study, Group]:
    study = make_study(folder, STUDY.format(seeds=seeds, rule=rule))
    return study, list_groups(study)[0]


def results(group: Group, values: dict[float, list[float]]) -> dict[Cell, dict[str, Any]]:
    return {
        Cell(group, rate, seed): fake_result(value) for rate, each in values.items() for seed, value in enumerate(each)
    }


def test_choice_ignores_test_metrics(tmp_path: Path) -> None:
    """Validation and test metrics rank the learning rates differently; without test metrics the choice is the same."""
    study, group = study_of(tmp_path)
    found = {Cell(group, rate, 0): fake_result(val, test) for rate, val, test in zip(RATES, (50, 70, 60), (99, 1, 100))}
    chosen = choose_learning_rate(study, group, found)
    assert chosen is not None and chosen.learning_rate == 0.01
    assert (
        choose_learning_rate(study, group, {cell: {'val': result['val']} for cell, result in found.items()}) == chosen
    )


def test_mean_over_seeds_decides(tmp_path: Path) -> None:
    study, group = study_of(tmp_path, '(0, 1)')
    values = {0.001: [90.0, 10.0], 0.01: [60.0, 61.0], 0.1: [20.0, 95.0]}
    chosen = choose_learning_rate(study, group, results(group, values))
    assert chosen is not None
    assert chosen.learning_rate == max(values, key=lambda rate: statistics.mean(values[rate])) == 0.01
    assert not chosen.at_edge and not chosen.failed


def test_rule_less_and_edge(tmp_path: Path) -> None:
    study, group = study_of(tmp_path, rule='less')
    chosen = choose_learning_rate(study, group, results(group, {0.001: [3.0], 0.01: [2.0], 0.1: [1.0]}))
    assert chosen is not None and chosen.learning_rate == 0.1 and chosen.at_edge


def test_non_finite_metrics_lose_and_ties_go_to_the_first(tmp_path: Path) -> None:
    study, group = study_of(tmp_path)
    for bad in (math.nan, math.inf, -math.inf):
        chosen = choose_learning_rate(study, group, results(group, {0.001: [bad], 0.01: [1.0], 0.1: [1.0]}))
        assert chosen is not None and chosen.learning_rate == 0.01


def test_failed_candidate_is_reported(tmp_path: Path) -> None:
    study, group = study_of(tmp_path, '(0, 1)')
    found = results(group, {0.001: [50.0, 50.0], 0.01: [99.0], 0.1: [60.0, 60.0]})
    chosen = choose_learning_rate(study, group, found)
    assert chosen is not None and chosen.learning_rate == 0.1 and chosen.failed == ((0.01, None),)
    assert choose_learning_rate(study, group, {}) is None


def test_missing_metric_raises(tmp_path: Path) -> None:
    study, group = study_of(tmp_path)
    found = {Cell(group, rate, 0): fake_result(1.0) | dict(val={'accuracy/top5': 1.0}) for rate in RATES}
    with pytest.raises(
        StudyError, match=r"learning_rate.metric='accuracy/top1': the validation reports accuracy/top5; did you mean"
    ):
        choose_learning_rate(study, group, found)


def run_through(schedule: Schedule, value: dict[float, float], fails: tuple[float, ...] = ()) -> list[tuple[str, Any]]:
    handed = []
    while (cell := schedule.next_cell()) is not None:
        handed.append((cell.group['tuning'], (cell.learning_rate, cell.seed)))
        if cell.learning_rate in fails:
            schedule.mark_failed(cell, 'it broke')
        else:
            schedule.mark_succeeded(cell, fake_result(value[cell.learning_rate or 0.0]))
    return handed


def test_remaining_seeds_run_only_at_the_chosen_rate(tmp_path: Path) -> None:
    study, _ = study_of(tmp_path)
    schedule = Schedule(study, list_groups(study), {})
    assert (schedule.total, schedule.left, schedule.done) == (10, 10, 0)
    handed = run_through(schedule, {0.001: 1.0, 0.01: 3.0, 0.1: 2.0})
    search = [(rate, 0) for rate in RATES]
    for tuning in ('pro', 'linear'):
        assert [cell for name, cell in handed if name == tuning] == [*search, (0.01, 1), (0.01, 2)]
    assert (schedule.total, schedule.left, schedule.done) == (10, 0, 10)


def test_existing_results_are_not_run_again(tmp_path: Path) -> None:
    study, group = study_of(tmp_path)
    there = {Cell(group, rate, 0): fake_result(rate) for rate in RATES} | {Cell(group, 0.1, 2): fake_result(1.0)}
    schedule = Schedule(study, [group], there)
    assert (schedule.total, schedule.left, schedule.done) == (5, 1, 4)
    assert run_through(schedule, {0.1: 1.0}) == [('pro', (0.1, 1))]


def test_failed_runs_do_not_stop_the_schedule(tmp_path: Path) -> None:
    study, group = study_of(tmp_path)
    schedule = Schedule(study, [group], {})
    handed = run_through(schedule, {0.001: 1.0, 0.1: 2.0}, fails=(0.01,))
    assert [cell for _, cell in handed][3:] == [(0.1, 1), (0.1, 2)]
    assert (schedule.left, schedule.done, len(schedule.failed)) == (0, 4, 1)
    lost = Schedule(study, [group], {})
    assert len(run_through(lost, {}, fails=RATES)) == 3
    assert (lost.total, lost.left, lost.done) == (3, 0, 0)


def test_options_of_the_search_apply_only_to_it(tmp_path: Path) -> None:
    """Search runs have a config and a folder of their own, and every seed runs again at the chosen rate."""
    text = STUDY.format(seeds='(0,)', rule='greater').replace("rule='greater'", "options={'a': 2}")
    study = make_study(tmp_path, text, 'a = 1\noptim_wrapper = dict(optimizer=dict(lr=0.5))\n')
    group = list_groups(study)[0]
    configs = ConfigBuilder(study)
    schedule = Schedule(study, [group], {})
    search = list(iter(schedule.next_cell, None))
    assert [(cell.search, cell.learning_rate, cell.seed) for cell in search] == [(True, rate, 0) for rate in RATES]
    assert {configs.build(cell).cfg.a for cell in search} == {2}
    assert (schedule.total, schedule.left) == (6, 6)
    for cell, value in zip(search, (50.0, 70.0, 60.0)):
        schedule.mark_succeeded(cell, fake_result(value))
    final = list(iter(schedule.next_cell, None))
    assert [(cell.search, cell.learning_rate, cell.seed) for cell in final] == [(False, 0.01, s) for s in (0, 1, 2)]
    assert {configs.build(cell).cfg.a for cell in final} == {1}
    assert len({cell.name for cell in (*search, *final)}) == 6 and schedule.left == 3
    assert set(list_possible_cells(study, [group])) >= {*search, *final}
    found = {cell: fake_result(70.0) for cell in (*search, *final)}
    rows = list(result_rows(study, found, schedule.choices))
    assert sum(row['chosen'] for row in rows if row['split'] == 'val') == 3


def test_an_option_of_the_search_must_fit_the_config(tmp_path: Path) -> None:
    text = STUDY.format(seeds='(0,)', rule='greater').replace("rule='greater'", "options={'b.c': 2}")
    study = make_study(tmp_path, text, 'a = 1\noptim_wrapper = dict(optimizer=dict(lr=0.5))\n')
    cell = list_search_cells(study, list_groups(study)[0])[0]
    with pytest.raises(StudyError, match=r"learning_rate\.options: .*'b\.c'"):
        ConfigBuilder(study).build(cell)


def test_settings_are_searched_with_every_learning_rate(tmp_path: Path) -> None:
    """Every combination of rate and setting is a candidate; the final runs have the best pair's config."""
    text = STUDY.format(seeds='(0,)', rule='greater').replace(
        'linear={}', "lora=dict(settings={'rank4': {'a': 4}, 'rank16': {'a': 16}}, learning_rates=(0.01, 0.1))"
    )
    study = make_study(tmp_path, text, 'a = 1\noptim_wrapper = dict(optimizer=dict(lr=0.5))\n')
    group = list_groups(study)[1]
    configs = ConfigBuilder(study)
    schedule = Schedule(study, [group], {})
    assert schedule.total == 6
    search = list(iter(schedule.next_cell, None))
    built = [configs.build(cell).cfg for cell in search]
    assert [(cfg.optim_wrapper.optimizer.lr, cfg.a) for cfg in built] == [(0.01, 4), (0.01, 16), (0.1, 4), (0.1, 16)]
    for cell, value in zip(search, (50.0, 70.0, 60.0, 10.0)):
        schedule.mark_succeeded(cell, fake_result(value))
    final = list(iter(schedule.next_cell, None))
    assert [(cell.learning_rate, cell.setting, cell.seed) for cell in final] == [(0.01, 'rank16', s) for s in (1, 2)]
    assert {configs.build(cell).cfg.a for cell in final} == {16}
    assert [cell.name.rpartition('/')[2] for cell in final] == [f'lr=0.01,rank16,seed={s}' for s in (1, 2)]
    for cell in final:
        schedule.mark_succeeded(cell, fake_result(71.0))
    rows = list(result_rows(study, schedule.results, schedule.choices))
    assert {(row['setting'], row['seed']) for row in rows if row['chosen']} == {('rank16', s) for s in (0, 1, 2)}
    assert schedule.left == 0


def test_a_candidate_that_failed_is_not_compared(tmp_path: Path) -> None:
    text = STUDY.format(seeds='(0,)', rule='greater').replace(
        'linear={}', "lora=dict(settings={'rank4': {}, 'rank16': {}}, learning_rates=0.01)"
    )
    study = make_study(tmp_path, text)
    group = list_groups(study)[1]
    schedule = Schedule(study, [group], {})
    first, second = iter(schedule.next_cell, None)
    schedule.mark_failed(first, 'out of memory')
    schedule.mark_succeeded(second, fake_result(1.0))
    choice = schedule.choices[group]
    assert (choice.setting, choice.failed, choice.at_edge) == ('rank16', ((0.01, 'rank4'),), False)


def test_validation_of_a_search_with_its_own_options_is_shown(tmp_path: Path) -> None:
    """The final runs may be trained on the validation images, so that their validation metric means nothing."""
    text = STUDY.format(seeds='(0,)', rule='greater').replace("rule='greater'", "options={'a': 2}")
    study = make_study(tmp_path, text, 'a = 1\noptim_wrapper = dict(optimizer=dict(lr=0.5))\n')
    schedule = Schedule(study, [list_groups(study)[0]], {})
    for cell, value in zip(list(iter(schedule.next_cell, None)), (50.0, 70.0, 60.0)):
        schedule.mark_succeeded(cell, fake_result(value))
    for cell in list(iter(schedule.next_cell, None)):
        schedule.mark_succeeded(cell, fake_result(99.0))
    assert summarize_groups(schedule)[0].validation('accuracy/top1') == [70.0]
