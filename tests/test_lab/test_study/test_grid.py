"""The groups of a study, and the errors for an invalid study file."""

from pathlib import Path

import pytest

from protuning_lab.study.errors import StudyError
from protuning_lab.study.grid import Group, Shard, describe_skipped, list_groups, parse_shard, select_groups
from protuning_lab.study.study_file import read_study
from tests.test_lab.test_study.fake import make_study

STUDY = """
config = 'base.py'
axes = dict(
    target=dict(balanced={}, long={}),
    backbone=dict(resnet={}, vit={}),
    tuning=dict(pro={}, vpt={}, full=dict(learning_rates=(1e-4, 1e-3))),
)
skip = [dict(backbone='resnet', tuning='vpt', why='no tokens')]
learning_rate = dict(values=(0.01, 0.1), metric='acc')
seeds = (0, 1, 2)
"""


def names(groups: list[Group]) -> list[str]:
    return ['/'.join(value for _, value in group.values) for group in groups]


def test_grid_is_the_product_without_skipped_groups(tmp_path: Path) -> None:
    study = make_study(tmp_path, STUDY)
    groups = list_groups(study)
    expected = [f'{t}/{b}/{u}' for t in ('balanced', 'long') for b in ('resnet', 'vit') for u in ('pro', 'vpt', 'full')]
    assert names(groups) == [name for name in expected if 'resnet/vpt' not in name]
    assert describe_skipped(study) == [('backbone resnet, tuning vpt', 'no tokens')]
    assert {group['tuning']: group.learning_rates for group in groups} == {
        'pro': (0.01, 0.1),
        'vpt': (0.01, 0.1),
        'full': (1e-4, 1e-3),
    }
    assert str(study.work_dir) == 'work_dirs/studies/study'


def test_select_groups(tmp_path: Path) -> None:
    study = make_study(tmp_path, STUDY)
    assert names(select_groups(study, list_groups(study), ['target=long', 'tuning=pro,vpt'])) == [
        'long/resnet/pro',
        'long/vit/pro',
        'long/vit/vpt',
    ]
    with pytest.raises(StudyError, match="there is no axis 'tunning'.*did you mean 'tuning'"):
        select_groups(study, list_groups(study), ['tunning=pro'])
    with pytest.raises(StudyError, match="axis 'tuning' has no value 'lora'; its values are pro, vpt, full"):
        select_groups(study, list_groups(study), ['tuning=lora'])
    with pytest.raises(StudyError, match='selects no combination'):
        select_groups(study, list_groups(study), ['backbone=resnet', 'tuning=vpt'])


@pytest.mark.parametrize('count', [1, 2, 3, 7])
def test_shards_partition_the_groups(count: int, tmp_path: Path) -> None:
    groups = list_groups(make_study(tmp_path, STUDY))
    parts = [Shard(part, count).select(groups) for part in range(1, count + 1)]
    taken = [group for part in parts for group in part]
    assert sorted(taken, key=str) == sorted(groups, key=str)
    assert len(taken) == len(set(taken))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_parse_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_shard('2/3') == Shard(2, 3)
    for text in ('0/3', '4/3', '2', 'a/b'):
        with pytest.raises(StudyError, match=f'--shard {text}'):
            parse_shard(text)
    monkeypatch.delenv('SLURM_ARRAY_TASK_ID', raising=False)
    with pytest.raises(StudyError, match='SLURM_ARRAY_TASK_ID is not set; submit the job with sbatch --array=1-4'):
        parse_shard('slurm/4')
    with pytest.raises(StudyError, match='--shard slurm: write i/n, such as 1/4, or slurm/4'):
        parse_shard('slurm')
    # one of four tasks is restarted with sbatch --array=2
    for name, value in (('COUNT', '1'), ('MIN', '2'), ('MAX', '2'), ('ID', '2')):
        monkeypatch.setenv(f'SLURM_ARRAY_TASK_{name}', value)
    assert parse_shard('slurm/4') == Shard(2, 4)
    monkeypatch.setenv('SLURM_ARRAY_TASK_ID', '0')
    with pytest.raises(StudyError, match='there is no part 0; the parts are 1 to 4'):
        parse_shard('slurm/4')


WRONG = [
    ("tuning='vpt', why", "tunning='vpt', why", "skip: tunning: there is no axis 'tunning'.*did you mean 'tuning'"),
    ("backbone='resnet', t", "backbone='resnext', t", "skip: backbone: axis 'backbone' has no value 'resnext'"),
    (", why='no tokens'", '', 'must name values of axes and the reason'),
    ("config = 'base.py'", "config = 'bass.py'", "config='bass.py': file .* does not exist"),
    ("config = 'base.py'", '', 'no config'),
    ('seeds = (0, 1, 2)', 'seeds = (0, 0)', r'seeds=.*must be different whole numbers'),
    ('seeds = (0, 1, 2)', 'seed = (0, 1)', "a study has no key 'seed'; did you mean 'seeds'"),
    ("metric='acc')", "metrik='acc')", "learning_rate.metrik.*did you mean 'metric'"),
    (", metric='acc')", ')', 'learning_rate: metric is missing'),
    ('values=(0.01, 0.1)', "values=('a',)", r'learning_rate.values=.*must be different numbers'),
    ("metric='acc')", "metric='acc', rule='more')", r"learning_rate.rule='more': must be one of"),
    ('pro={}', 'pro=1', 'axes.tuning.pro=1: must be a dict of options'),
    ('tuning=dict(pro={}', "tuning=dict({'a/b': {}}, pro={}", 'axes.tuning.a/b: a name may contain only letters'),
    ('backbone=dict(resnet', 'steps=dict(resnet', "axes.steps: choose another name: results.csv has a column 'steps'"),
    ('axes = dict(\n', "axes = dict({'a b': dict(x={})},\n", 'axes.a b: a name may contain only letters'),
    ('seeds = (0, 1, 2)', "table = dict(rows='method')", "table: there is no axis 'method'"),
    (
        'seeds = (0, 1, 2)',
        "test = dict(c={'model.x': 1})",
        "test.c: 'model.x' is not allowed, because the model",
    ),
]


@pytest.mark.parametrize(('old', 'new', 'said'), WRONG)
def test_invalid_study_raises(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in STUDY
    with pytest.raises(StudyError, match=said):
        make_study(tmp_path, STUDY.replace(old, new))


def test_all_errors_are_reported_together(tmp_path: Path) -> None:
    text = STUDY.replace("'base.py'", '3').replace('(0, 1, 2)', "'a'") + "table = dict(digits='two', colour='red')\n"
    with pytest.raises(StudyError) as caught:
        make_study(tmp_path, text)
    wheres = [line.removeprefix(f'{tmp_path / "study.py"}: ') for line in str(caught.value).splitlines()]
    assert [where.partition(': ')[0] for where in wheres] == [
        'config=3', "seeds='a'", "table.digits='two'", 'table.colour'
    ]  # fmt: skip


def test_missing_or_broken_study_file_raises(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match='does not exist'):
        read_study(tmp_path / 'none.py')
    with pytest.raises(StudyError, match='study.py cannot be read'):
        make_study(tmp_path, STUDY + '\nseeds = (\n')


def test_two_axes_with_learning_rates_raise(tmp_path: Path) -> None:
    study = make_study(tmp_path, STUDY.replace('vit={}', 'vit=dict(learning_rates=1e-2)'))
    with pytest.raises(StudyError, match='learning_rates are set by backbone and by tuning'):
        list_groups(study)
