"""studies/evidence.py: from an empty folder to the page, and with failed studies."""

import csv
import statistics
from pathlib import Path

import pytest

from protuning_lab.study import main as run_study
from studies import evidence
from tests.test_studies.conftest import COUNTS

TWO_STEPS = {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2}


@pytest.mark.slow  # trains four source networks for two steps each, and imports the host libraries
def test_evidence_from_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, source networks, a part of a study, and the page. A second call trains nothing."""
    import studies.data
    import studies.sources

    def run_part(argv: list[str]) -> None:
        only = ['--only', 'target=textures', 'block=default']
        run_study([*argv, *only, '--cfg-options', 'train_cfg.max_iters=2', 'train_dataloader.dataset.max_per_class=6'])

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(studies.data, 'COUNTS', COUNTS)
    monkeypatch.setattr(studies.sources, 'SCHEDULES', {'resnet': TWO_STEPS, 'vit': TWO_STEPS})
    monkeypatch.setattr(evidence, 'run_study', run_part)
    (template := tmp_path / 'page.md.in').write_text(
        '{{mean spatial target=textures backbone=vit block=default}}, {{source accuracy backbone=vit world=digits}}\n'
        '<!-- if headline -->\nnot run\n<!-- end -->\n'
    )
    monkeypatch.setattr(evidence, 'PAGES', {'evidence.md': template})
    command = ['--studies', 'spatial', '--jobs', '1', '--docs', str(tmp_path / 'docs')]

    evidence.main(command)
    with (tmp_path / 'work_dirs/studies/spatial/results.csv').open() as file:
        tests = [float(row['value']) for row in csv.DictReader(file) if row['split'] == 'test']
    with (tmp_path / 'docs/evidence/sources.csv').open() as file:
        sources = {(row['backbone'], row['world']): float(row['accuracy']) for row in csv.DictReader(file)}
    page = (tmp_path / 'docs/evidence.md').read_text()
    assert len(tests) == 3 and len(sources) == 4
    mean, deviation = statistics.fmean(tests), statistics.stdev(tests)
    assert page == f'{mean:.1f} ± {deviation:.1f}, {sources["vit", "digits"]:.0f} %\n'

    def never(*_: object) -> None:
        pytest.fail('trained again')

    monkeypatch.setattr('protuning_lab.study.workers.execute_job', never)
    monkeypatch.setattr(studies.sources, 'train_source', never)
    evidence.main(command)
    assert (tmp_path / 'docs/evidence.md').read_text() == page


def test_failed_study_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page is written from the existing results, and the error names the failed study; Ctrl-C stops everything."""
    ran = []

    def fails_first(argv: list[str]) -> None:
        ran.append(Path(argv[0]).stem)
        if ran[-1] == 'spatial':
            raise SystemExit(1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, 'make_data', lambda folder: None)
    monkeypatch.setattr('studies.sources.train_sources', dict)
    monkeypatch.setattr(evidence, 'run_study', fails_first)
    (template := tmp_path / 'page.md.in').write_text('a page\n')
    monkeypatch.setattr(evidence, 'PAGES', {'evidence.md': template})
    command = ['--studies', 'spatial', 'steps', '--docs', str(tmp_path / 'docs')]
    with pytest.raises(SystemExit, match='spatial: runs failed or data are missing; the pages are written'):
        evidence.main(command)
    assert ran == ['spatial', 'steps'] and 'spatial is incomplete' in capsys.readouterr().out
    assert (tmp_path / 'docs/evidence.md').read_text() == 'a page\n'

    def interrupted(argv: list[str]) -> None:
        raise SystemExit(130)

    (tmp_path / 'docs/evidence.md').unlink()
    monkeypatch.setattr(evidence, 'run_study', interrupted)
    with pytest.raises(SystemExit) as ended:
        evidence.main(command)
    assert ended.value.code == 130 and not (tmp_path / 'docs/evidence.md').exists()
