"""Every classification config: what it builds, what it trains, which data it reads; one trained through the tools."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, init_default_scope
from torch import nn

from protuning_lab.parameter_grid import no_memory
from protuning_mm import TunedBackbone
from protuning_mm.data import DataError, check_data_files
from protuning_mm.data.published_data_sets import SOURCES
from protuning_mm.engine.build_model import build_model
from tests.classification_data import write_image, write_pets
from tests.mini import REPO
from tests.test_docs import walk_through

CLS = REPO / 'configs/cls'
NAMES = sorted(path.stem for path in CLS.glob('*.py'))
CLASSES = {
    'cifar10': 10, 'cifar100': 100, 'clothing1m': 14, 'caltech101': 102, 'stanford-dogs': 120, 'pets': 37,
    'flowers102': 102, 'imagenet': 1000,
}  # fmt: skip
QUICK = ('r50_lora_cifar100', 'deit-s_protune_imagenet-r')
MODELS = {model['Name']: model for model in yaml.safe_load((CLS / 'metafile.yml').read_text())['Models']}


def load(name: str) -> Config:
    cfg = Config.fromfile(CLS / f'{name}.py')
    if cfg.model.backbone.backbone.type == 'timm':
        cfg.model.backbone.backbone.pretrained = False  # timm would download as it builds
    return cfg


def shapes(model: nn.Module, size: int = 224) -> torch.Size:
    """What the head gives for two images, computed without values."""
    with no_memory(), torch.no_grad():
        return model.head(model.extract_feat(torch.empty(2, 3, size, size))).shape


@pytest.mark.parametrize('name', [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_frozen_backbone_and_trained_head(name: str) -> None:
    """At full size; the head fits backbone and data set; what is trained is what the metafile says."""
    cfg = load(name)
    tuning, data = name.split('_')[1:3]
    with no_memory():
        model = build_model(cfg)
    assert isinstance(model.backbone, TunedBackbone)
    assert [t.name for t in model.backbone.tunings] == [tuning.replace('protune', 'pro').replace('-', '_')]
    classes = CLASSES[data.split('-')[0] if data != 'stanford-dogs' else data]
    assert shapes(model) == (2, classes)
    assert all(parameter.requires_grad for parameter in model.head.parameters())
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    beside = {key for key in trained if not key.startswith('head.')}
    plain = {f'backbone.{key}' for key in model.backbone.frozen_keys}
    assert not beside & plain
    if tuning == 'protune':
        assert beside and all(key.startswith('backbone.prompts.') for key in beside)
    counted = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert MODELS[name]['Metadata']['Trained Parameters (M)'] == round(counted / 1e6, 2)


def leaves(dataset: Any) -> list[dict[str, Any]]:
    return [dataset] + (leaves(dataset['dataset']) if 'dataset' in dataset else [])


DATA = ('r50_protune_pets', 'r50_protune_cifar100-c', 'r50_protune_imagenet-a')


@pytest.mark.parametrize(
    'name',
    [n if n in DATA else pytest.param(n, marks=pytest.mark.slow) for n in NAMES if n.startswith('r50_protune')],
)
def test_data_and_metrics(name: str) -> None:
    """Everything has its class; 224 px; what is trained on is never tested on; a data set moves by one option."""
    from protuning_mm.engine.config import move_data_root

    cfg = load(name)
    scoped = {kind: (kind if '.' in kind else f'mmpretrain.{kind}') for kind in _types(cfg)}
    assert all(DATASETS.get(kind) or METRICS.get(kind) for kind in scoped.values()), scoped
    loaders = [cfg[f'{split}_dataloader'].dataset for split in ('train', 'val', 'test')]
    train, _, test = (leaves(loader)[-1] for loader in loaders)
    assert '224' in str(train['pipeline']) and '224' in str(test['pipeline'])
    assert (train['type'], train.get('split')) != (test['type'], test.get('split'))
    moved = [leaf['data_root'] for loader in loaders for leaf in leaves(loader) if 'data_root' in leaf]
    move_data_root(cfg, cfg.data_root, '/elsewhere')
    now = [leaf['data_root'] for loader in loaders for leaf in leaves(loader) if 'data_root' in leaf]
    assert now[0] == '/elsewhere' and all(b != a for a, b in zip(moved, now) if not a.startswith('data/imagenet-'))


def _types(cfg: Config) -> set[str]:
    found = {leaf['type'] for s in ('train', 'val', 'test') for leaf in leaves(cfg[f'{s}_dataloader'].dataset)}
    for key in ('val_evaluator', 'test_evaluator'):
        metrics = cfg[key] if isinstance(cfg[key], list) else [cfg[key]]
        found |= {metric['type'] for metric in metrics}
    return found


@pytest.mark.parametrize('classes', [10, 100])
def test_long_tails_have_their_ratios(classes: int) -> None:
    for ratio in (50, 100):
        dataset = load(f'r50_protune_cifar{classes}-lt-ir{ratio}').train_dataloader.dataset
        assert (dataset.type, dataset.imbalance_ratio) == ('protuning_mm.LongTailed', ratio)
        assert dataset.dataset.split == 'train'


def test_held_out_part_has_no_augmentation() -> None:
    cfg = load('r50_protune_cifar10_held-out')
    train, val = (cfg[f'{split}_dataloader'].dataset for split in ('train', 'val'))
    assert (train.part, val.part) == ('train', 'held_out')
    assert {k: v for k, v in train.dataset.items() if k != 'pipeline'} == {
        k: v for k, v in val.dataset.items() if k != 'pipeline'
    }
    assert 'RandomFlip' in str(train.dataset.pipeline) and 'Random' not in str(val.dataset.pipeline)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the configs of docs/classification.md, as a user writes them."""
    monkeypatch.chdir(tmp_path)
    walk_through('classification.md', tmp_path)
    return tmp_path


HEADS = {
    'r50_side_pets.py': 37,
    'swin_b_protune_pets.py': 37,
    'held_out.py': 102,
    'pets_corrupted.py': 37,
    'imagenet_a_200.py': 200,
    'mine.py': 3,
}


def test_documented_configs(written: Path) -> None:
    assert {path.name for path in written.iterdir()} == set(HEADS)


@pytest.mark.parametrize(
    'name', [n if n == 'r50_side_pets.py' else pytest.param(n, marks=pytest.mark.slow) for n in HEADS]
)
def test_documented_configs_build(name: str, written: Path) -> None:
    with no_memory():
        assert shapes(build_model(Config.fromfile(written / name))) == (2, HEADS[name])


def test_documented_configs_with_mmpretrain_and_doctor(written: Path) -> None:
    from mmpretrain import get_model

    from protuning_mm.cli.doctor import diagnose, parse_args

    model = get_model('r50_side_pets.py')
    assert isinstance(model.backbone, TunedBackbone) and model.backbone.tunings[0].name == 'side'
    found = diagnose(parse_args(['r50_side_pets.py', '--no-step'])).findings
    assert not [finding for finding in found if finding.level == 'error'], found


def test_your_own_class_folders_as_written(written: Path) -> None:
    """With the page's other example on them: what is missing is said, then the data sets load."""
    cfg = Config.fromfile(written / 'mine.py')
    with pytest.raises(DataError, match="train_dataloader.dataset.data_root='data/mine': there is no such folder"):
        check_data_files(cfg, ('train_dataloader', 'val_dataloader'))
    for split, images in (('train', 2), ('val', 1)):
        for label in ('cat', 'dog', 'fox'):
            for i in range(images):
                write_image(written / f'data/mine/{split}/{label}/{i}.jpg')
    check_data_files(cfg, ('train_dataloader', 'val_dataloader', 'test_dataloader'))
    init_default_scope(cfg.default_scope)
    for split, labels in (('train', [0, 0, 1, 1, 2, 2]), ('test', [0, 1, 2])):
        dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        assert dataset.get_gt_labels().tolist() == labels and dataset.CLASSES == ('cat', 'dog', 'fox')
        assert dataset[0]['inputs'].shape == (3, 224, 224)


def test_corrupted_pets_as_written(written: Path) -> None:
    write_pets(written / 'data/Oxford-IIIT_Pets')
    cfg = Config.fromfile(written / 'pets_corrupted.py')
    check_data_files(cfg, ('test_dataloader',))
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    sample = dataset[2 * 5 * 14]  # jpeg_compression, 1
    assert len(dataset) == 75 * 2 and sample['inputs'].shape == (3, 224, 224)
    assert (sample['data_samples'].corruption, sample['data_samples'].severity) == ('jpeg_compression', 1)


def test_docs_name_every_config_and_source() -> None:
    text = (REPO / 'docs/classification.md').read_text()
    for source in SOURCES.values():
        for url in re.findall(r'https?://[^\s,;)]*[^\s,;).]', source.where):
            assert f'<{url}>' in text, url
    for name in NAMES:
        for part in name.removesuffix('_held-out').split('_'):
            assert f'`{part}`' in text, part
