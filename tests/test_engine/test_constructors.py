"""The hosts' optimizer constructors on tuned backbones: the plain class's groups, and full rates for prompts."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import DefaultOptimWrapperConstructor, build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from protuning_mm.cli.doctor import diagnose, parse_args
from protuning_mm.engine import TrainableOptimWrapperConstructor
from tests.families import FAMILIES
from tests.mini import write_config
from tests.test_engine.test_tuning_hook import log_of
from tests.tiny import TinyClassifier, Weights, runner, tuned_resnet

Groups = dict[str, tuple[float, float]]
LR, DECAY = 0.1, 0.01
RESNET = dict(type='mmpretrain.ResNet', depth=50, base_channels=4, stem_channels=4)
# host, its constructor, a backbone that its plain class takes, paramwise_cfg
LAYERWISE: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    f'mmpretrain, {family}': (
        'mmpretrain',
        'LearningRateDecayOptimWrapperConstructor',
        RESNET if family == 'ResNet' else FAMILIES[f'mmpretrain.{family}'],
        dict(layer_decay_rate=0.5, norm_decay_mult=0.0, custom_keys={'.pos_embed': dict(decay_mult=0.0)}),
    )
    for family in ('ConvNeXt', 'Swin', 'ViT', 'ResNet')
} | {
    f'{host}, {decay}': (
        host,
        'LearningRateDecayOptimizerConstructor',
        FAMILIES['mmpretrain.ConvNeXt'],
        dict(decay_rate=0.5, decay_type=decay, num_layers=6),
    )
    for host in ('mmdet', 'mmseg')
    for decay in ('layer_wise', 'stage_wise')
}


class Model(nn.Module):
    """A backbone and a head; mmpretrain's classifiers hand the question on to the backbone like this."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(3, 2)

    def get_layer_depth(self, param_name: str) -> Any:
        return self.backbone.get_layer_depth(param_name, 'backbone.')


def build(host: str, backbone: dict[str, Any]) -> Model:
    import_module(f'{host}.models')
    import_module('mmpretrain.models')
    with MODELS.switch_scope_and_registry(host) as registry:
        return Model(registry.build(dict(backbone)))


def groups(model: nn.Module, host: str, constructor: str, paramwise: dict[str, Any] | None) -> Groups:
    """Each parameter's learning rate and weight decay."""
    optimizer = dict(type='AdamW', lr=LR, weight_decay=DECAY)
    cfg = dict(type='OptimWrapper', constructor=constructor, optimizer=optimizer, paramwise_cfg=paramwise)
    import_module(f'{host}.engine')
    with DefaultScope.overwrite_default_scope(host):
        built = build_optim_wrapper(model, Config(cfg)._cfg_dict).optimizer
    names = {param: name for name, param in model.named_parameters()}
    return {names[p]: (group['lr'], group['weight_decay']) for group in built.param_groups for p in group['params']}


@pytest.mark.parametrize('tuning', ['full', ['pro', 'bias'], 'lora'])
@pytest.mark.parametrize('case', list(LAYERWISE))
def test_layers_have_the_rates_that_the_plain_class_gets(case: str, tuning: Any) -> None:
    """By the host's own constructor, on the host's own class; what is added is a last layer, with the full rate."""
    host, constructor, backbone, paramwise = LAYERWISE[case]
    tuned = build(host, dict(type='protuning_mm.TunedBackbone', backbone=backbone, tuning=tuning))
    trained = {name for name, param in tuned.named_parameters() if param.requires_grad}
    plain = build(host, backbone)
    for name, param in plain.named_parameters():
        param.requires_grad_(name in trained)
    expected = groups(plain, host, constructor, paramwise)
    assert len({rate for rate, _ in expected.values()}) > (1 if tuning != 'lora' else 0)
    found = groups(tuned, host, constructor, paramwise)
    assert set(found) == trained
    assert {name: found[name] for name in expected} == expected
    added = set(found) - set(expected)
    assert (tuning == 'full') == (not added)
    assert all(found[name][0] == LR for name in added)


def test_a_backbone_without_layers_is_refused_as_its_plain_class_is() -> None:
    for backbone in (FAMILIES['mmdet.Swin'], dict(type='protuning_mm.TunedBackbone', backbone=FAMILIES['mmdet.Swin'])):
        with pytest.raises(NotImplementedError):
            groups(build('mmdet', backbone), 'mmdet', *LAYERWISE['mmdet, layer_wise'][1::2])


def test_the_model_itself_is_left_as_it_is() -> None:
    tuned = build('mmpretrain', dict(type='protuning_mm.TunedBackbone', backbone=FAMILIES['mmpretrain.ViT']))
    backbone, before = tuned.backbone, dict(vars(tuned.backbone.plain))
    groups(tuned, 'mmpretrain', *LAYERWISE['mmpretrain, ViT'][1::2])
    assert tuned.backbone is backbone and vars(backbone.plain) == before


# key -> lr_mult; then what a plain tensor of the backbone, two prompts and the head get, as multiples
KEYS: dict[str, tuple[dict[str, float], tuple[float, float, float, float]]] = {
    'the whole backbone': ({'backbone': 0.1}, (0.1, 1, 1, 1)),
    'with a dot': ({'backbone.': 0.1}, (0.1, 1, 1, 1)),
    'prompts by a longer key': ({'backbone': 0.1, 'backbone.prompts': 0.5}, (0.1, 0.5, 0.5, 1)),
    'prompts by a shorter key': ({'backbone': 0.1, 'prompts': 0.5}, (0.1, 0.5, 0.5, 1)),
    'one prompt': ({'backbone': 0.1, 'prompts.2': 0.5}, (0.1, 1, 0.5, 1)),
    'one part of the network': ({'backbone.layer1': 0.1}, (0.1, 1, 1, 1)),
    'prompts alone': ({'prompts': 0.1}, (1, 0.1, 0.1, 1)),
    'the head': ({'head': 10.0, 'backbone': 0.1}, (0.1, 1, 1, 10)),
}


@pytest.mark.parametrize('constructor', [DefaultOptimWrapperConstructor, TrainableOptimWrapperConstructor])
@pytest.mark.parametrize('case', list(KEYS))
def test_a_rate_of_the_whole_backbone_is_not_the_prompts(case: str, constructor: type, weights: Weights) -> None:
    """As DINO's and Mask2Former's configs set it; weight decay is what mmengine's own rule gives."""
    rates, expected = KEYS[case]
    keys = {key: dict(lr_mult=rate, decay_mult=0.5) for key, rate in rates.items()}
    written = {key: dict(value) for key, value in keys.items()}
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18), tuning=['pro', 'bias']))
    cfg = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=LR, weight_decay=DECAY))
    optimizer = constructor(cfg, dict(custom_keys=keys))(model).optimizer
    assert keys == written
    found = {param: group for group in optimizer.param_groups for param in group['params']}
    prompts, bias = model.backbone.prompts, model.backbone.plain.layer1[0].bn1.bias
    asked = [bias, prompts[0].reduce.weight, prompts[2].reduce.weight, model.head.bias]
    assert [found[param]['lr'] for param in asked] == pytest.approx([LR * multiple for multiple in expected])
    for name, param in model.named_parameters():
        if param in found:
            halved = any(key in name for key in keys)
            assert found[param]['weight_decay'] == pytest.approx(DECAY * (0.5 if halved else 1)), name


def test_the_start_of_a_run_tells_the_rates(tmp_path: Path, weights: Weights) -> None:
    keys = {'backbone': dict(lr_mult=0.1)}
    wrapper = dict(optimizer=dict(type='SGD', lr=0.01), paramwise_cfg=dict(custom_keys=keys))
    schedule = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=2)]
    model = TinyClassifier(tuned_resnet(weights('mmdet', depth=18), tuning=['pro', 'bias']))
    runner(model, tmp_path / 'run', epochs=1, optim_wrapper=wrapper, param_scheduler=schedule).train()
    said = log_of(tmp_path / 'run')
    table = said.partition('Parameters:\n')[2].partition('total')[0]
    rows = {line.split()[0]: line.split()[-1] for line in table.splitlines() if line.startswith(('backbone.', 'head '))}
    assert rows == {'backbone.stem': '0.001', 'head': '0.01', 'backbone.prompts': '0.01'} | {
        f'backbone.stages.{i}': '0.001' for i in range(4)
    }
    assert "custom_keys['backbone'] is meant for pre-trained weights" in said


def test_the_doctor_tells(tmp_path: Path) -> None:
    extra = "\noptim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}))\n"
    config = write_config('upernet', tmp_path, extra)
    where = "optim_wrapper.paramwise_cfg.custom_keys['backbone'].lr_mult"
    (told,) = (f for f in diagnose(parse_args([str(config), '--no-step'])).findings if f.where == where)
    prompts = 4 * len(tuned_resnet().prompts[0].state_dict())
    assert told.level == 'info' and f'the {prompts} parameters that the tuning added' in told.found
    assert "'backbone.prompts'" in told.advice


def test_the_table_takes_several_optimizers() -> None:
    """The table takes an OptimWrapperDict as well."""
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    from protuning_mm.engine import count_parameters

    model = TinyClassifier(tuned_resnet())
    one = torch.optim.SGD(model.head.parameters(), lr=0.5)
    other = torch.optim.SGD([p for p in model.backbone.parameters() if p.requires_grad], lr=0.25)
    table = count_parameters(model, OptimWrapperDict(a=OptimWrapper(one), b=OptimWrapper(other)))
    assert {p.name: p.rates for p in table.parts if p.rates} == {'backbone.prompts': (0.25,), 'head': (0.5,)}
    assert 'learning rate' in str(table) and 'learning rate' not in str(count_parameters(model))
