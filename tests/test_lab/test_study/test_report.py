"""Tables, plots and the HTML page of a study, from fake results."""

import csv
import re
import statistics
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from protuning_lab.study import main
from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.definition import COLUMNS, Study
from protuning_lab.study.grid import Cell, list_groups
from protuning_lab.study.label_placement import Box, place_labels
from protuning_lab.study.markdown import render_markdown
from protuning_lab.study.report import make_overview
from protuning_lab.study.result_merging import merge_results
from protuning_lab.study.results_table import write_results_table
from protuning_lab.study.study_file import read_study
from tests.test_lab.test_study.fake import METRIC, fake_result, make_study, write_fake_results

STUDY = """
title = 'A <study> & more'
work_dir = {work_dir!r}
config = 'base.py'
axes = dict(
    target=dict(easy={{}}, hard={{}}),
    tuning=dict(pro={{'a': 1}}, linear={{}}, vpt={{}}),
)
skip = [dict(target='hard', tuning='vpt', why='no tokens')]
learning_rate = dict(values=(0.001, 0.01, 0.1), seeds=(0,), metric='accuracy/top1')
seeds = (0, 1, 2)
table = dict(rows='tuning', columns='target', metric='accuracy/top1', digits=3)
"""
BASE = """
a = 0
model = dict(type='A')
optim_wrapper = dict(optimizer=dict(lr=1.0))
val_dataloader = dict(dataset=dict(type='D', ann_file='val'))
test_dataloader = dict(dataset=dict(type='D', ann_file='test'))
"""
BEST = {'pro': 0.01, 'linear': 0.1, 'vpt': 0.01}


def score_of(cell: Cell) -> float:
    return len(cell.group['tuning']) * 7 + cell.seed**2 / 3 + (cell.group['target'] == 'easy') * 11


def result(cell: Cell) -> dict[str, Any] | None:
    """All seeds at the best learning rate, one seed at the others, which have far better test metrics."""
    best = BEST[cell.group['tuning']] == cell.learning_rate
    if not best:
        return fake_result(50.0, 1000.0) if cell.seed == 0 else None
    return fake_result(60.0, score_of(cell), trained_parameters=100 * len(cell.group['tuning']))


@pytest.fixture(scope='module')
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp('report')
    found = make_study(folder, STUDY.format(work_dir=str(folder / 'work')), BASE)
    write_fake_results(found, result)
    main([str(folder / 'study.py'), '--report'])
    return found


def expected(target: str, tuning: str) -> tuple[float, float]:
    scores = [len(tuning) * 7 + seed**2 / 3 + (target == 'easy') * 11 for seed in range(3)]
    return statistics.mean(scores), statistics.stdev(scores)


def test_markdown_table_equals_statistics_module(study: Study) -> None:
    text = (study.work_dir / 'tables.md').read_text()
    rows = {
        cells[0]: cells[1:]
        for cells in ([c.strip() for c in line.split('|')[1:-1]] for line in text.split('\n') if line.startswith('|'))
        if len(cells) == 3
    }
    assert set(rows) >= set(BEST)
    for i, target in enumerate(('easy', 'hard')):
        for tuning in BEST:
            if (target, tuning) == ('hard', 'vpt'):
                assert rows[tuning][i] == '–'
                continue
            mean, deviation = expected(target, tuning)
            edge = ' †' if tuning == 'linear' else ''
            told = f'{mean:.3f} ± {deviation:.3f}{edge}'
            assert rows[tuning][i] == (f'**{told}**' if tuning == 'linear' else told)
    assert '1000' not in text  # test metrics of other learning rates are not shown
    assert '- target hard, tuning vpt: no tokens' in text
    assert '† The best learning rate is at the edge' in text and 'at the edge of those tried' in text


def test_results_csv_has_test_metrics_only_of_chosen_runs(study: Study) -> None:
    with (study.work_dir / 'results.csv').open() as file:
        rows = list(csv.DictReader(file))
    runs = {(r['target'], r['tuning'], r['learning_rate'], r['seed']) for r in rows}
    assert len(runs) == 5 * (3 + 2)
    for row in rows:
        chosen = BEST[row['tuning']] == float(row['learning_rate'])
        assert row['chosen'] == str(chosen) and row['metric'] == METRIC
        assert chosen or row['split'] == 'val'
    easy = [float(r['value']) for r in rows if (r['split'], r['target'], r['tuning']) == ('test', 'easy', 'pro')]
    assert (statistics.mean(easy), statistics.stdev(easy)) == pytest.approx(expected('easy', 'pro'))


def test_columns_of_results_csv(study: Study) -> None:
    with (study.work_dir / 'results.csv').open() as file:
        header = next(csv.reader(file))
    assert header == ['target', 'tuning', *COLUMNS]


def test_parquet_equals_csv(study: Study) -> None:
    """Read by pyarrow, compared with the csv module."""
    table = pyarrow.parquet.read_table(study.work_dir / 'results.parquet')
    with (study.work_dir / 'results.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert table.column_names == list(rows[0])
    assert [{name: str(value) for name, value in row.items()} for row in table.to_pylist()] == rows


def test_only_csv_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    assert write_results_table(tmp_path, [dict(seed=0, value=1.5)]) == [tmp_path / 'results.csv']
    assert [file.name for file in tmp_path.iterdir()] == ['results.csv']
    assert (tmp_path / 'results.csv').read_text() == 'seed,value\n0,1.5\n'


class Page(HTMLParser):
    """Parses tables as lists of (text, data-value), and collects everything that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[tuple[str, str | None]]]] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self._value: str | None = None
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.fetched += [v for k in ('src', 'href', 'xlink:href') if (v := given.get(k)) and not v.startswith('#')]
        if tag == 'table':
            self.tables.append([])
        elif tag == 'tr':
            self.tables[-1].append([])
        elif tag in ('td', 'th'):
            self._inside, self._value = True, given.get('data-value')

    def handle_endtag(self, tag: str) -> None:
        if tag in ('td', 'th'):
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.tables[-1][-1].append((data, self._value))


def test_html_page_is_self_contained(study: Study) -> None:
    text = (study.work_dir / 'index.html').read_text()
    page = Page(text)
    assert page.fetched == [] and 'import' not in re.sub(r'.*<script>', '', text, flags=re.DOTALL).split('</script>')[0]
    assert not re.search(r'url\(\s*["\']?(?!#)', text)
    assert '<h1>A &lt;study&gt; &amp; more</h1>' in text
    assert page.tags.count('svg') == 1
    first = page.tables[0]
    assert [name for name, _ in first[0]] == ['tuning', 'easy', 'hard']
    for row in first[1:]:
        tuning = row[0][0]
        assert float(row[1][1] or 'nan') == pytest.approx(expected('easy', tuning)[0])


def test_plots_are_deterministic(study: Study) -> None:
    before = {name: (study.work_dir / name).read_bytes() for name in ('parameters.png', 'parameters.svg')}
    assert before['parameters.png'].startswith(b'\x89PNG') and b'</svg>' in before['parameters.svg']
    for name in (*BEST, 'easy', 'hard', METRIC):
        assert f'>{name}<'.encode() in before['parameters.svg']
    main([str(study.path), '--report'])
    assert {name: (study.work_dir / name).read_bytes() for name in before} == before


def test_labels_do_not_overlap() -> None:
    """Thirteen points; eight of them are closer than the labels are wide."""
    points = [(200 + 9.0 * (i % 4), 150 + 12.0 * (i // 4)) for i in range(8)] + [
        (60.0 + 70 * i, 60.0) for i in range(5)
    ]
    sizes = [(30.0 + 8 * (i % 5), 13.0) for i in range(13)]
    frame = Box(0, 0, 420, 300)
    boxes = place_labels(points, sizes, [], frame, radius=4)
    markers = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    for i, box in enumerate(boxes):
        assert (box.right - box.left, box.top - box.bottom) == pytest.approx(sizes[i])
        assert box.left >= 0 and box.right <= 420 and box.bottom >= 0 and box.top <= 300
        for other in (*boxes[:i], *markers):
            apart = box.right <= other.left or other.right <= box.left
            assert apart or box.top <= other.bottom or other.top <= box.bottom


def test_merge_reports_conflicts_and_stale_results(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = study.path.read_text().replace(repr(str(study.work_dir)), repr(str(tmp_path / 'whole')))
    path = study.path.with_name('merged.py')
    path.write_text(text)

    def differing(cell: Cell) -> dict[str, Any] | None:
        found = result(cell)
        if found and cell.name == 'target=easy,tuning=pro/lr=0.01,seed=1':
            found['test'] = dict(test={METRIC: 12345.0})
        return found

    other = path.with_name('other.py')
    other.write_text(text.replace(str(tmp_path / 'whole'), str(tmp_path / 'second')))
    write_fake_results(read_study(other), differing)
    with pytest.raises(SystemExit) as stopped:
        main([str(path), '--merge', str(study.work_dir), str(tmp_path / 'second')])
    assert stopped.value.code == 1
    printed = capsys.readouterr().out
    assert printed.count('disagree') == 1
    name, first, second = 'target=easy,tuning=pro/lr=0.01,seed=1', study.work_dir, tmp_path / 'second'
    assert f'{name}: {second} and {first} disagree on test; kept the result in {first}' in printed
    for name in ('results.csv', 'parameters.svg'):
        assert (tmp_path / 'whole' / name).read_bytes() == (study.work_dir / name).read_bytes()

    path.write_text(text.replace("'a': 1", "'a': 2"))
    changed = read_study(path)
    told = merge_results(changed, list_groups(changed), ConfigBuilder(changed), [tmp_path / 'second'])
    assert len(told) == 2 * 5 and all('it was made with another config' in line for line in told)
    third = path.with_name('third.py')
    third.write_text(path.read_text().replace(str(tmp_path / 'whole'), str(tmp_path / 'third')))
    write_fake_results(read_study(third), result)
    # the existing results are from before the change and are replaced
    assert merge_results(changed, list_groups(changed), ConfigBuilder(changed), [tmp_path / 'third']) == []
    assert not make_overview(changed, list_groups(changed), ConfigBuilder(changed)).stale
    with pytest.raises(SystemExit, match='not the work dir of a study'):
        main([str(path), '--merge', str(tmp_path / 'nowhere')])


def test_an_archive_restores_every_result(study: Study, tmp_path: Path) -> None:
    main([str(study.path), '--report'])
    archive = tmp_path / 'kept.jsonl'
    archive.write_bytes((study.work_dir / 'results.jsonl').read_bytes())
    arguments = [str(study.path), '--work-dir', str(tmp_path / 'restored'), '--merge']
    main([*arguments, str(archive)])
    before = {path.relative_to(study.work_dir): path for path in study.work_dir.rglob('*') if path.is_file()}
    for name, path in before.items():
        if name.name == 'result.json' or name.suffix in ('.csv', '.jsonl', '.svg'):
            assert (tmp_path / 'restored' / name).read_bytes() == path.read_bytes()
    assert sum(name.name == 'result.json' for name in before) == len(archive.read_text().splitlines()) > 0
    archive.write_text(archive.read_text() + '{"name": "half')
    with pytest.raises(SystemExit, match=r'kept.jsonl, line \d+: not the result of a study'):
        main([*arguments, str(archive)])


def test_tables_warn_if_validation_may_be_test_data(study: Study) -> None:
    path = study.path.with_name('allowed.py')
    path.write_text(study.path.read_text() + 'allow_test_as_validation = True\n')
    allowed = read_study(path)
    said = render_markdown(make_overview(allowed, list_groups(allowed), ConfigBuilder(allowed)))
    assert 'VALIDATION AND TEST MAY BE THE SAME DATA' in said


def test_tables_name_the_study_relative_to_the_working_dir(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """An absolute path would mean nothing to readers on other machines."""
    folder = study.path.resolve().parent
    for here, told in ((folder.parent, f'{folder.name}/study.py'), (folder, 'study.py'), (folder / 'work', 'study.py')):
        monkeypatch.chdir(here)
        assert f'`tools/study.py {told}`' in render_markdown(
            make_overview(study, list_groups(study), ConfigBuilder(study))
        )
