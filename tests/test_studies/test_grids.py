"""Every study is valid, its cells train what the tuning says, and skipped combinations cannot be built."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from protuning_lab.study import read_study
from protuning_lab.study.configs import ConfigBuilder, apply_options
from protuning_lab.study.grid import Cell, Group, list_groups
from protuning_lab.study.validation_data import check_validation_data
from protuning_mm.tunings import TuningError
from tests.mini import REPO

GRIDS = sorted(path for path in (REPO / 'studies/grids').glob('*.py') if not path.stem.endswith('axes'))
PAPER_S = {'full', 'linear', 'partial', 'bias', 'side', 'adapter', 'adaptformer', 'pro'}
REFUSED = [('resnet', 'adapter'), ('resnet', 'adaptformer'), ('resnet', 'vpt'), ('vit', 'conv_adapter')]


def build(cfg: Any) -> Any:
    """Build a model with random frozen weights, because the tests have no source networks."""
    cfg.model.backbone.init_cfg = None
    cfg.model.backbone.allow_random_backbone = True
    init_default_scope('mmpretrain')
    with MODELS.switch_scope_and_registry('mmpretrain') as registry:
        return registry.build(cfg.model)


@pytest.mark.parametrize('path', GRIDS, ids=lambda path: path.stem)
def test_every_study_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    study = read_study(path)
    groups, configs = list_groups(study), ConfigBuilder(study)
    for group in (groups[0], groups[-1]):
        config = configs.build(Cell(group, group.learning_rates[0], study.seeds[0]))
        assert config.tests
        if not study.allow_test_as_validation:
            check_validation_data(group.name, config)
    assert study.work_dir == Path(f'work_dirs/studies/{path.stem}')
    assert study.table.metric


@pytest.mark.parametrize('path', GRIDS, ids=lambda path: path.stem)
def test_a_tuning_replaces_that_of_the_config(path: Path) -> None:
    """mmengine removes a ``_delete_`` that it meets twice; the config's own settings would then stay."""
    study = read_study(path)
    configs = ConfigBuilder(study)
    for group in list_groups(study):
        key = 'model.backbone.tuning'
        declared = [value[key] for value in (study.axes[axis][group[axis]] for axis in study.axes) if key in value]
        if declared:
            got = configs.build(Cell(group, group.learning_rates[0], study.seeds[0])).cfg.model.backbone.tuning
            assert got == {name: value for name, value in declared[-1].items() if name != '_delete_'}, group.name


def test_headline_covers_all_tunings() -> None:
    study = read_study(REPO / 'studies/grids/headline.py')
    assert len(study.axes['tuning']) == 13 and set(study.axes['tuning']) >= PAPER_S
    assert len(study.axes['target']) == 3 and len(study.axes['backbone']) == 2
    assert len(list_groups(study)) == 3 * (2 * 13 - len(REFUSED))
    assert len(study.seeds) == 5


HEADLINE = list_groups(read_study(REPO / 'studies/grids/headline.py'))
ONE_TARGET = [group for group in HEADLINE if group['target'] == 'digits']


@pytest.mark.parametrize('group', ONE_TARGET, ids=lambda group: f'{group["backbone"]}-{group["tuning"]}')
def test_cells_build_and_freeze(group: Group) -> None:
    study = read_study(REPO / 'studies/grids/headline.py')
    model = build(ConfigBuilder(study).build(Cell(group, 0.01, 0)).cfg)
    backbone, kind = model.backbone, group['tuning']
    trained = {name for name, param in backbone.named_parameters() if param.requires_grad}
    own = set(dict(backbone.plain.named_parameters()))
    assert all(param.requires_grad for param in model.head.parameters())
    if kind == 'full':
        assert trained == own
    elif kind == 'linear':
        assert not trained
    elif kind in ('bias', 'norm', 'partial'):
        assert trained and trained < own
    else:
        assert trained and not any(name in trained for name in own if not name.startswith(tuple(added(backbone))))
    model.eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, 32, 32), mode='tensor').shape == (2, 10)


def added(backbone: Any) -> list[str]:
    return [tuning.child for tuning in backbone.tunings if tuning.added is not None]


@pytest.mark.parametrize(('backbone', 'tuning'), REFUSED)
def test_skipped_combinations_cannot_be_built(backbone: str, tuning: str) -> None:
    study = read_study(REPO / 'studies/grids/headline.py')
    cfg = ConfigBuilder(study).build(Cell(next(g for g in ONE_TARGET if g['backbone'] == backbone), 0.01, 0)).cfg
    apply_options(cfg, study.axes['tuning'][tuning].options, tuning)
    with pytest.raises(TuningError, match=tuning):
        build(cfg)


@pytest.mark.parametrize(('name', 'most'), [('ablations', 1.1), ('spatial', 1.15)])  # widths are multiples of 8
def test_bottleneck_of_same_size(name: str, most: float) -> None:
    """The block without spatial convolution has at least as many parameters as the default, and only a few more."""
    study = read_study(REPO / f'studies/grids/{name}.py')
    counts = {}
    for group in list_groups(study):
        if group['target'] == 'digits' and group['block'] in ('default', 'bottleneck_same_size'):
            backbone = build(ConfigBuilder(study).build(Cell(group, 0.01, 0)).cfg).backbone
            counts[group['block']] = sum(param.numel() for param in backbone.prompts.parameters())
    assert counts['default'] <= counts['bottleneck_same_size'] <= most * counts['default']


@pytest.mark.slow  # a run with mmengine, which imports the host libraries
def test_study_cell_runs(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a source network whose file contains both worlds, as studies/sources.py writes it."""
    from protuning_lab.study import main
    from protuning_mm.registry import MODELS as OURS
    from protuning_mm.weights.write import write_checkpoint

    study = read_study(REPO / 'studies/grids/headline.py')
    configs = ConfigBuilder(study)
    state = {}
    for world in ('digits', 'textures'):
        cfg = configs.build(Cell(ONE_TARGET[0], 0.01, 0)).cfg.model.backbone
        with OURS.switch_scope_and_registry('mmpretrain') as registry:
            plain = registry.build(cfg.backbone)
        state |= {f'{world}.{name}': tensor for name, tensor in plain.state_dict().items()}
    monkeypatch.chdir(tmp_path)
    write_checkpoint({'state_dict': state}, tmp_path / 'work_dirs/studies/sources/resnet.pth')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/studies').symlink_to(few)
    short = ['train_cfg.max_iters=2', 'train_dataloader.dataset.max_per_class=6']
    only = ['--only', 'target=textures', 'backbone=resnet', 'tuning=pro']
    main([str(REPO / 'studies/grids/headline.py'), *only, '--cfg-options', *short])
    table = (tmp_path / 'work_dirs/studies/headline/results.csv').read_text().splitlines()
    tests = [line for line in table if ',test,' in line]
    assert len(tests) == len(study.seeds) and all(line.startswith('textures,resnet,pro,') for line in tests)
