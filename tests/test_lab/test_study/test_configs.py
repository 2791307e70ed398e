"""The config of a cell: options act like --cfg-options, the hash changes with every setting, validation is not test."""

from pathlib import Path

import pytest
from mmengine.config import Config

from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.errors import StudyError
from protuning_lab.study.grid import Cell, list_groups
from protuning_lab.study.study_file import read_study
from protuning_lab.study.validation_data import check_validation_data
from tests.mini import REPO
from tests.test_lab.test_study.fake import make_study

BASE = """
model = dict(backbone=dict(type='A', depth=18), tuning=dict(type='vpt', tokens=4))
optim_wrapper = dict(optimizer=dict(lr=1.0))
val_dataloader = dict(dataset=dict(type='D', data_root='data/', data_prefix='val', pipeline=[1]))
test_dataloader = dict(dataset=dict(type='D', data_root='data', data_prefix='test', pipeline=[2]))
pipeline = [dict(type='Load'), dict(type='Flip', prob=0.5)]
"""
STUDY = """
config = 'base.py'
options = {'pipeline.1.prob': 0.25}
axes = dict(
    target=dict(a={}, b=dict(config='other.py')),
    tuning=dict(pro={'model.tuning': dict(type='pro', _delete_=True)}, deep={'model.backbone.depth': 50}),
)
learning_rate = dict(values=(0.01, 0.1), metric='acc')
test = dict(clean={}, hard={'test_dataloader.dataset.data_prefix': 'hard'})
"""


def configs(folder: Path, old: str = '', new: str = '', base: tuple[str, str] = ('', '')) -> ConfigBuilder:
    (folder / 'other.py').write_text(BASE.replace('depth=18', 'depth=101'))
    return ConfigBuilder(make_study(folder, STUDY.replace(old, new), BASE.replace(*base)))


def cell(found: ConfigBuilder, index: int, rate: float = 0.1, seed: int = 3) -> Cell:
    return Cell(list_groups(found.study)[index], rate, seed)


def test_options_are_applied_like_cfg_options(tmp_path: Path) -> None:
    found = configs(tmp_path)
    of = [found.build(cell(found, i)).cfg for i in range(4)]
    expected = Config.fromfile(tmp_path / 'base.py')
    expected.merge_from_dict({'model.tuning': dict(type='pro', _delete_=True), 'pipeline.1.prob': 0.25})
    expected.merge_from_dict({'optim_wrapper.optimizer.lr': 0.1, 'randomness': dict(seed=3)})
    expected.merge_from_dict(dict(launcher='none', resume=False))
    assert of[0].to_dict() == expected.to_dict()
    assert [cfg.model.backbone.depth for cfg in of] == [18, 50, 101, 50]
    assert of[1].model.tuning == dict(type='vpt', tokens=4)
    tests = found.build(cell(found, 0)).tests
    assert {name: parts['test_dataloader']['dataset']['data_prefix'] for name, parts in tests.items()} == {
        'clean': 'test',
        'hard': 'hard',
    }


def test_command_line_options_are_applied_last(tmp_path: Path) -> None:
    found = configs(tmp_path)
    over = ConfigBuilder(found.study, {'model.backbone.depth': 34})
    assert over.build(cell(found, 1)).cfg.model.backbone.depth == 34
    assert over.build(cell(found, 1)).digest != found.build(cell(found, 1)).digest


CHANGES = [
    ('', ''),
    ("'pipeline.1.prob': 0.25", "'pipeline.1.prob': 0.26"),
    ("type='pro'", "type='prompt'"),
    ("'hard'}", "'harder'}"),
    ('test = dict', "validate = 'as configured'\ntest = dict"),
]


def test_hash_changes_with_every_setting(tmp_path: Path) -> None:
    digests = []
    for old, new in CHANGES:
        found = configs(tmp_path, old, new) if old else configs(tmp_path)
        digests.append(found.build(cell(found, 0)).digest)
    for rate, seed in ((0.01, 3), (0.1, 4)):
        found = configs(tmp_path)
        digests.append(found.build(cell(found, 0, rate, seed)).digest)
    found = configs(tmp_path, base=('depth=18', 'depth=19'))
    digests.append(found.build(cell(found, 0)).digest)
    assert len(set(digests)) == len(digests)
    again = configs(tmp_path)
    assert again.build(cell(again, 0)).digest == digests[0]


WRONG = [
    ("'model.backbone.depth'", "'model.backbnoe.depth'", "'model.backbnoe.depth': model has no 'backbnoe'.*backbone"),
    ("'model.backbone.depth'", "'train_dataloder'", "config has no such key; did you mean 'train_dataloader'"),
    ("'model.backbone.depth'", "'model.backbone.depth.x'", 'model.backbone.depth is 18, not a dict'),
    ("'pipeline.1.prob'", "'pipeline.2.prob'", "pipeline has no '2'; it has 0, 1"),
    ("metric='acc'", "key='optim_wrapper.optimiser.lr', metric='acc'", "learning_rate.key: .*'optimiser'.*optimizer"),
    ("'test_dataloader.dataset.data_prefix'", "'test_dataloader.datasets.x'", 'test.hard: .*datasets'),
]


@pytest.mark.parametrize(('old', 'new', 'said'), WRONG)
def test_unknown_option_raises(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in STUDY
    found = configs(tmp_path, old, new)
    with pytest.raises(StudyError, match=said):
        found.build(cell(found, 1))


SAME = [
    ("data_prefix='val'", "data_prefix='test'"),  # pipelines and a trailing slash differ
    ("data_root='data/', data_prefix='val'", "data_prefix='data/test'"),
    ("data_prefix='val'", "data_prefix='hard'"),  # the second test set
]
CIFAR = """
val_dataloader = dict(dataset=dict(type='{val}', data_root='data/cifar10', split='{split}'))
test_dataloader = dict(dataset=dict(type='protuning_mm.CIFAR10C', data_root='data/CIFAR-10-C'))
test_evaluator = dict()
optim_wrapper = dict(optimizer=dict(lr=1.0))
"""
CIFAR_STUDY = """
config = 'base.py'
axes = dict(tuning=dict(pro={}))
learning_rate = dict(values=(0.01, 0.1), metric='acc')
"""


@pytest.mark.parametrize('change', SAME)
def test_validation_on_test_data_raises(change: tuple[str, str], tmp_path: Path) -> None:
    found = configs(tmp_path, base=change)
    with pytest.raises(StudyError, match=r'val_dataloader.dataset and the test set .* are the same data'):
        check_validation_data('a', found.build(cell(found, 0)))


@pytest.mark.parametrize(
    ('val', 'split', 'refused'),
    [('CIFAR10', 'test', True), ('mmpretrain.CIFAR10', 'train', False), ('CIFAR100', 'test', False)],
)
def test_cifar_c_counts_as_cifars_test_set(val: str, split: str, refused: bool, tmp_path: Path) -> None:
    """Whether CIFAR-C is read from its own files or made from the clean ones in another folder."""
    for clean in ('', ", clean=dict(type='CIFAR10', data_root='data/cifar10', split='test')"):
        base = CIFAR.format(val=val, split=split).replace("'data/CIFAR-10-C'", "'data/CIFAR-10-C'" + clean)
        found = ConfigBuilder(make_study(tmp_path, CIFAR_STUDY, base))
        if refused:
            with pytest.raises(StudyError, match='are the same data, the test set of CIFAR10'):
                check_validation_data('a', found.build(cell(found, 0)))
        else:
            check_validation_data('a', found.build(cell(found, 0)))


def held_out(part: str, dataset: str = "dict(type='A', data_root='d', pipeline=[{part!r}])", **more: float) -> str:
    inner = dataset.replace('{part!r}', repr(part))
    return f"dict(type='protuning_mm.HeldOut', part={part!r}, dataset={inner}, **{more})"


@pytest.mark.parametrize(
    ('val', 'test', 'separate'),
    [
        (held_out('train'), held_out('held_out'), True),
        (held_out('held_out'), held_out('train'), True),
        (held_out('held_out'), held_out('held_out'), False),
        (held_out('held_out'), held_out('all'), False),
        (held_out('train'), held_out('held_out', seed=1), False),
        (held_out('train'), held_out('held_out', fraction=0.2), False),
        (held_out('train', seed=0, fraction=0.1), held_out('held_out'), True),  # the defaults
        (held_out('held_out', held_out('train')), held_out('held_out'), True),  # validation is a part of a part
        (held_out('held_out', held_out('train')), held_out('train', held_out('held_out')), True),
        (held_out('held_out', held_out('all')), held_out('held_out'), False),
    ],
)
def test_parts_of_held_out_are_separate(val: str, test: str, separate: bool, tmp_path: Path) -> None:
    base = f'val_dataloader = dict(dataset={val})\ntest_dataloader = dict(dataset={test})\ntest_evaluator = dict()\n'
    found = ConfigBuilder(make_study(tmp_path, CIFAR_STUDY, f'{base}optim_wrapper = dict(optimizer=dict(lr=1.0))\n'))
    if separate:
        check_validation_data('a', found.build(cell(found, 0)))
    else:
        with pytest.raises(StudyError, match='are the same data'):
            check_validation_data('a', found.build(cell(found, 0)))


def test_separate_validation_data_pass_and_missing_data_raise(tmp_path: Path) -> None:
    found = configs(tmp_path)
    check_validation_data('a', found.build(cell(found, 0)))
    found = configs(tmp_path, base=('val_dataloader', 'no_dataloader'))
    with pytest.raises(StudyError, match='the config has none: set val_dataloader'):
        check_validation_data('a', found.build(cell(found, 0)))


def test_documented_study(tmp_path: Path) -> None:
    """The example of docs/study.md with our configs: every cell has a config with separate validation data."""
    text = (REPO / 'docs/study.md').read_text().split('```python\n')[1].split('```')[0]
    (tmp_path / 'studies').mkdir()
    (tmp_path / 'configs').symlink_to(REPO / 'configs')
    (path := tmp_path / 'studies/clothing.py').write_text(text)
    study = read_study(path)
    found, groups = ConfigBuilder(study), list_groups(study)
    assert len(groups) == 3 * 3 - 1
    for group in groups:
        config = found.build(Cell(group, group.learning_rates[0], 0))
        check_validation_data(group.name, config)
        assert config.cfg.model.backbone.tuning.type == group['tuning']
