"""The studies on EfficientNet-Lite0: their cells build, and no run trains on the images that judge it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from protuning_lab.study import read_study
from protuning_lab.study.configs import ConfigBuilder
from protuning_lab.study.grid import Cell, Group, list_groups
from protuning_lab.study.learning_rate_choice import list_search_cells
from studies.results import read_results
from tests.mini import REPO
from tests.test_studies.test_grids import build

LITE = read_study(REPO / 'studies/grids/lite.py')
BLOCKS = read_study(REPO / 'studies/grids/lite_blocks.py')
JUDGED = ('lite', 'lite_fashion', 'lite_long_tail', 'lite_few_shot', 'lite_blocks')
TUNINGS = [(group, s) for group in list_groups(LITE) if group['target'] == 'cifar10' for s in group.settings]


@pytest.mark.parametrize(
    ('name', 'tunings', 'candidates'),
    [('lite', 11, 6), ('lite_fashion', 11, 3), ('lite_long_tail', 11, 1), ('lite_few_shot', 7, 1)],
)
def test_every_tuning_gets_as_many_candidates(name: str, tunings: int, candidates: int) -> None:
    study = read_study(REPO / f'studies/grids/{name}.py')
    assert {len(group.candidates) for group in list_groups(study)} == {candidates}
    assert len(study.axes['tuning']) == tunings


def test_chosen_candidates_are_those_of_the_results() -> None:
    file = REPO / 'docs/evidence/lite.csv'
    if not file.is_file():
        pytest.skip('the study is not complete')
    results = read_results('lite', file)
    chosen = Config.fromfile(REPO / 'studies/grids/lite_chosen_axes.py').chosen
    for tuning, (rate, setting) in chosen.items():
        assert results.chosen(dict(target='cifar10', tuning=tuning)) == (rate, setting or ''), tuning


@pytest.mark.parametrize(('group', 'setting'), TUNINGS, ids=lambda value: getattr(value, 'name', value))
def test_cells_of_the_headline_build(group: Group, setting: str | None) -> None:
    model = build(ConfigBuilder(LITE).build(Cell(group, 0.01, 0, setting=setting)).cfg)
    trained = sum(p.numel() for p in model.backbone.parameters() if p.requires_grad)
    assert (trained == 0) == (group['tuning'] in ('linear', 'mlp'))
    assert model.backbone.frozen_keys or group['tuning'] == 'full'


def test_settings_change_the_trained_parameters() -> None:
    counts: dict[str, set[int]] = {}
    for group, setting in TUNINGS:
        model = build(ConfigBuilder(LITE).build(Cell(group, 0.01, 0, setting=setting)).cfg)
        counts.setdefault(group['tuning'], set()).add(sum(p.numel() for p in model.parameters() if p.requires_grad))
    settings = {group['tuning']: len(group.settings) for group, _ in TUNINGS}
    assert {tuning: len(found) for tuning, found in counts.items()} == settings


@pytest.mark.slow
@pytest.mark.parametrize('name', BLOCKS.axes['block'])
def test_variants_of_the_block_build_and_start_plain(name: str) -> None:
    group = next(each for each in list_groups(BLOCKS) if (each['target'], each['block']) == ('cifar10', name))
    backbone = build(ConfigBuilder(BLOCKS).build(Cell(group, 0.01, 0)).cfg).backbone
    assert sum(p.numel() for p in backbone.parameters() if p.requires_grad) > 0
    assert len(backbone.trained_keys) == 0


@pytest.mark.parametrize(
    'name', ['lite', 'lite_fashion', 'lite_long_tail', 'lite_few_shot', 'lite_corruptions', 'lite_blocks']
)
def test_each_target_reads_its_own_images(name: str) -> None:
    study = read_study(REPO / f'studies/grids/{name}.py')
    for group in {group['target']: group for group in list_groups(study)}.values():
        built = ConfigBuilder(study).build(Cell(group, 0.01, 0, setting=group.settings[0]))
        root = 'data/studies/lite/' + ('fashion' if group['target'] == 'fashion' else 'cifar10')
        loaders = [built.cfg.train_dataloader, built.cfg.val_dataloader]
        for loader in (*loaders, *(test['test_dataloader'] for test in built.tests.values())):
            assert [each for each in read_roots(loader['dataset']) if each is not None] == [root]


def read_roots(dataset: Any) -> list[str | None]:
    """Return ``data_root`` of each data set, from the outermost wrapper, which has none, to the images."""
    inner = read_roots(dataset['dataset']) if 'dataset' in dataset else []
    assert ('data_root' in dataset) == (not inner)
    return [dataset.get('data_root'), *inner]


@pytest.fixture(scope='module')
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cached images as cache_images.py writes them, 500 per class; every image holds its own number."""
    root = tmp_path_factory.mktemp('arrays')
    for split, per_class in (('train', 500), ('test', 200)):
        numbers = np.arange(10 * per_class, dtype='<i4') + 100_000 * (split == 'test')
        images = np.zeros((len(numbers), 1, 2, 3), dtype=np.uint8)
        images.reshape(len(numbers), 6)[:, :4] = numbers.view(np.uint8).reshape(-1, 4)
        np.save(root / f'{split}_images.npy', images)
        np.save(root / f'{split}_labels.npy', np.arange(len(numbers)) % 10)
    (root / 'classes.json').write_text(str([f'class {i}' for i in range(10)]).replace("'", '"'))
    return root


def relocate(cfg: Any, root: Path) -> Any:
    """Point a data set's config at other arrays, without transforms."""
    found = {key: relocate(value, root) if key == 'dataset' else value for key, value in cfg.items()}
    return found | (dict(data_root=str(root), pipeline=[]) if cfg['type'].endswith('ImageArrays') else {})


def images_of(cfg: Any, root: Path) -> set[int]:
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(relocate(cfg.dataset, root))
    images = [dataset[i]['img'] for i in range(len(dataset))]
    return {int(np.ascontiguousarray(image).reshape(-1)[:4].copy().view('<i4')[0]) for image in images}


@pytest.mark.parametrize('name', JUDGED)
def test_no_run_trains_on_the_images_that_judge_it(name: str, arrays: Path) -> None:
    study = read_study(REPO / f'studies/grids/{name}.py')
    configs = ConfigBuilder(study)
    seen = {}
    for group in list_groups(study):
        if group['target'] in seen:
            continue
        last = Cell(group, 0.01, 0, setting=group.settings[0])
        search = configs.build((list_search_cells(study, group) or [last])[0]).cfg
        final = configs.build(last).cfg
        train, val = images_of(search.train_dataloader, arrays), images_of(search.val_dataloader, arrays)
        test = images_of(final.test_dataloader, arrays)
        assert not train & val and not test & (train | val)
        assert not test & images_of(final.train_dataloader, arrays)
        seen[group['target']] = len(train), len(val), len(images_of(final.train_dataloader, arrays)), len(test)
    # of a long tail with n images of the first class, class i keeps n IR^(-i/9), rounded down
    lt100, lt50, short = (
        sum(int(n * r ** (-i / 9)) for i in range(10)) for n, r in ((400, 100), (400, 50), (320, 100))
    )
    expected = {
        'lite': dict(cifar10=(800, 200, 1000, 2000)),
        'lite_fashion': dict(fashion=(800, 200, 1000, 2000)),
        'lite_long_tail': dict(cifar10_lt100=(lt100, 1000, lt100, 2000), cifar10_lt50=(lt50, 1000, lt50, 2000)),
        'lite_few_shot': {f'shots_{n}': (10 * n, 1000, 10 * n, 2000) for n in (1, 2, 4, 8, 16)},
        'lite_blocks': dict(
            cifar10=(800, 200, 800, 4000), fashion=(800, 200, 800, 4000), cifar10_lt100=(short, 800, short, 1000)
        ),
    }
    assert seen == expected[name]
