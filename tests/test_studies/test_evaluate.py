"""evaluate.py, remake.py and costs.py: deltas, runs and costs of the study on EfficientNet-Lite0."""

from pathlib import Path

import pytest

from protuning_lab.study import read_study
from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.grid import Cell, list_groups
from studies import evaluate
from studies.costs import write_costs
from studies.published import prepare
from studies.remake import read_rows, remake
from studies.results import EvidenceError, read_results
from tests.mini import REPO

SHARED = REPO.parent / 'shared/data'


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / 'cifar10_images.tar.xz').is_file(), reason='needs CIFAR-10')
def test_delta_reaches_the_accuracy_of_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare(['lite'], SHARED) == {}
    found, expected = evaluate.evaluate('pro', evaluate.DELTAS / 'cifar10_pro.pth')
    assert abs(found - expected) <= 0.2  # another processor rounds differently: four of 2,000 images


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / 'cifar10_images.tar.xz').is_file(), reason='needs CIFAR-10')
def test_run_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare(['lite'], SHARED) == {}
    row = next(row for row in read_rows('lite') if row['cell']['tuning'] == 'linear')
    found = remake('lite', row)
    assert abs(found['test']['test']['accuracy/top1'] - row['test']['test']['accuracy/top1']) <= 0.5
    assert found['trained_parameters'] == row['trained_parameters'] and found['steps'] == row['steps']


@pytest.mark.parametrize('study', ['lite', 'lite_relative', 'bccd'])
def test_committed_runs_have_the_configs_of_their_study(study: str) -> None:
    """Otherwise nobody could make them again."""
    grid = read_study(REPO / f'studies/grids/{study}.py')
    configs, groups = ConfigBuilder(grid), {group.name: group for group in list_groups(grid)}
    rows = read_rows(study)
    assert len(rows) >= len(groups) * len(grid.seeds)
    for row in rows:
        labels = row['cell']
        group = groups[row['name'].split('/')[0]]
        cell = Cell(group, labels['learning_rate'], labels['seed'], setting=labels['setting'])
        assert configs.build(cell).digest == row['config_hash'], row['name']


def test_run_of_another_config_is_not_made_again() -> None:
    with pytest.raises(EvidenceError, match='the study has another config'):
        remake('lite', read_rows('lite')[0] | dict(config_hash='0'))


def test_deltas_are_small_and_of_tunings_in_the_study() -> None:
    deltas = list(evaluate.DELTAS.glob('*.pth'))
    assert sum(path.stat().st_size for path in deltas) < 8e6 and len(deltas) >= 6
    rows = read_results('lite', REPO / 'docs/evidence/lite.csv').values('tuning', {})
    assert {path.stem.removeprefix('cifar10_') for path in deltas} <= set(rows)


def test_missing_data_are_named_with_their_publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match='data are missing: CIFAR-10 as images'):
        evaluate.main(['pro', '--data-root', str(tmp_path)])


def test_costs_need_the_results_of_the_study(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match='run the study first'):
        write_costs('lite', tmp_path)
    (tmp_path / 'evidence').mkdir()
    lines = (REPO / 'docs/evidence/lite.csv').read_text().splitlines()
    kept = [line for line in lines if ',linear,' not in line]
    (tmp_path / 'evidence/lite.csv').write_text('\n'.join(kept) + '\n')
    with pytest.raises(EvidenceError, match='nothing was chosen for target=cifar10, tuning=linear'):
        write_costs('lite', tmp_path, ['tuning=linear'])


@pytest.mark.parametrize(('tuning', 'chosen'), [('linear', (1e-3, '')), ('lora', (1e-3, 'rank16'))])
def test_chosen_candidate_is_read_from_the_results(tuning: str, chosen: tuple[float, str]) -> None:
    results = read_results('lite', REPO / 'docs/evidence/lite.csv')
    assert results.chosen(dict(target='cifar10', tuning=tuning)) == chosen
