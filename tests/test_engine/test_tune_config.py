"""Tuning put into configs of the hosts: what it replaces and what it leaves."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.tune_config import parse_tuning, tune_config
from tests.mini import REPO


def tuned(text: str, tuning: Any = 'pro') -> Config:
    return tune_config(Config.fromstring(text, '.py'), tuning)


@pytest.mark.parametrize(
    ('host', 'ours'),
    [
        ('mmdet::htc/htc_r50_fpn_1x_coco.py', 'det/htc_r50_protune.py'),
        ('mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py', 'seg/upernet_r50_protune.py'),
    ],
)
def test_optimizer_and_hooks_are_those_of_our_configs(host: str, ours: str) -> None:
    got, expected = tune_config(read_config(host)), read_config(REPO / 'configs' / ours)
    for key in ('optim_wrapper', 'default_hooks', 'custom_imports', 'train_dataloader', 'param_scheduler'):
        assert without_scopes(got[key]) == without_scopes(expected[key]), key
    model = read_config(host).model
    backbone = dict(type='protuning_mm.TunedBackbone', backbone=model.backbone, tuning='pro')
    assert got.model == {**model, 'backbone': backbone}


def without_scopes(node: Any) -> Any:
    """Remove the scopes that mmengine adds to what a config inherits from another package."""
    if isinstance(node, dict):
        return {key: without_scopes(value) for key, value in node.items() if key != '_scope_'}
    return [without_scopes(each) for each in node] if isinstance(node, list) else node


def test_config_of_a_user_stays_as_it_was_elsewhere(tmp_path: Path) -> None:
    cfg = Config.fromstring(
        """
custom_imports = dict(imports='my_package', allow_failed_imports=True)
model = dict(type='Detector', backbone=dict(type='ResNet', depth=50), neck=dict(type='FPN'))
optim_wrapper = dict(constructor='mmdet.LearningRateDecayOptimizerConstructor', optimizer=dict(type='AdamW', lr=1e-4))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=7), logger=dict(type='LoggerHook'))
""",
        '.py',
    )
    before = cfg.to_dict()
    got = tune_config(cfg, dict(type='lora', rank=8))
    assert cfg.to_dict() == before
    assert got.custom_imports == dict(imports=['my_package', 'protuning_mm'], allow_failed_imports=True)
    assert got.model.neck == dict(type='FPN')
    assert got.model.backbone.tuning == dict(type='lora', rank=8)
    assert got.optim_wrapper.constructor == 'mmdet.LearningRateDecayOptimizerConstructor'
    assert got.default_hooks.checkpoint == dict(type='protuning_mm.CheckpointHook', interval=7)
    assert got.default_hooks.logger == dict(type='LoggerHook')
    got.dump(tmp_path / 'dumped.py')
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == got.to_dict()
    assert tune_config(got, dict(type='lora', rank=8)).to_dict() == got.to_dict()  # tuning it again changes nothing


def test_checkpoint_hook_of_another_kind_stays() -> None:
    hook = "default_hooks = dict(checkpoint=dict(type='protuning_mm.DeltaCheckpointHook'))"
    got = tuned(f"model = dict(backbone=dict(type='A'))\n{hook}")
    assert got.default_hooks.checkpoint.type == 'protuning_mm.DeltaCheckpointHook'


@pytest.mark.parametrize(
    ('model', 'paths'),
    [
        ("dict(type='A', backbone=dict(type='B'))", ['backbone']),
        ("dict(type='Semi', detector=dict(type='A', backbone=dict(type='B')))", ['detector.backbone']),
        (
            "dict(backbone=dict(type='B'), teacher=dict(backbone=dict(type='B')), teacher_backbone=dict(type='B'))",
            ['backbone'],
        ),
        ("dict(type='A', backbone=[dict(type='B'), dict(type='C')])", ['backbone.0', 'backbone.1']),
        ("dict(type='A', backbone=dict(rgb=dict(type='B'), depth=dict(type='C')))", ['backbone.rgb', 'backbone.depth']),
        ("dict(type='SAN', image_encoder=dict(type='B'), text_encoder=dict(type='T'))", ['image_encoder']),
        ("dict(type='R', image_encoder=[dict(type='B'), dict(type='GlobalAveragePooling')])", ['image_encoder.0']),
        ("dict(type='A', models=[dict(backbone=dict(type='B')), dict(backbone=dict(type='C'))])",
         ['models.0.backbone', 'models.1.backbone']),
    ],
)  # fmt: skip
def test_backbones_are_found_in_wrappers(model: str, paths: list[str]) -> None:
    text = str(tuned(f'model = {model}').model.to_dict())
    assert text.count('TunedBackbone') == len(paths)
    for path in paths:
        found: Any = tuned(f'model = {model}').model
        for part in path.split('.'):
            found = found[int(part)] if part.isdigit() else found[part]
        assert found.type == 'protuning_mm.TunedBackbone' and found.backbone.type in ('B', 'C')


@pytest.mark.parametrize('backbone', ['TunedBackbone', 'protuning_mm.TunedBackbone', 'ProTunedResNet'])
def test_tuning_of_a_tuned_backbone_is_replaced(backbone: str) -> None:
    text = f"model = dict(backbone=dict(type='{backbone}', depth=50, tuning=dict(type='pro', ratio=1.0)))"
    assert tuned(text, 'bias').model.backbone == dict(type=backbone, depth=50, tuning='bias')


@pytest.mark.parametrize(
    ('text', 'tuning'),
    [
        ('pro', 'pro'),
        ('{type: lora, rank: 8}', dict(type='lora', rank=8)),
        ("{'type': 'lora', 'rank': 8}", dict(type='lora', rank=8)),
        ('[pro, {type: bias}]', ['pro', dict(type='bias')]),
    ],
)
def test_flag_is_parsed(text: str, tuning: Any) -> None:
    assert parse_tuning(text) == tuning


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('lorra', r"--tune lorra: there is no tuning 'lorra'; the tunings are adapter, .*lora"),
        ('[pro, {type: biass}]', "there is no tuning 'biass'"),
        ('{rank: 8}', r'write a name, such as pro, or a dict with a type'),
        ('{type: lora', r'--tune {type: lora: while parsing a flow mapping; write a name'),
        ('3', 'write a name'),
        ('', 'write a name'),
        ('[]', 'write a name'),
    ],
)
def test_wrong_flag_raises(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_tuning(text)


@pytest.mark.parametrize('text', ["model = dict(type='CLIP', text_encoder=dict(type='T'))", 'a = 1'])
def test_config_without_backbone_raises(text: str) -> None:
    with pytest.raises(ConfigError, match='its model has no backbone to tune; looked for backbone'):
        tuned(text)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('mmdet::dino/dino-4scale_r50.py', 'mmdet has no such config; near: dino-4scale_r50_8xb2-'),
        ('mmdet::dinoo/dino.py', 'mmdet has no such config; near: dino'),
        ('mmnone::a/b.py', "'mmnone' is not an installed package with configs"),
    ],
)
def test_wrong_config_of_a_package_raises(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(name)
