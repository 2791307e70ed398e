"""Checks of a config, its model and its optimizer: every fault is found, and a correct config gives no warning."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from protuning_mm.doctor.classes import check_num_classes
from protuning_mm.doctor.training_setup import TrainingSetup, build_model
from protuning_mm.engine.class_check import num_classes_of
from tests.mini import write_backbone
from tests.test_doctor.doctor_runs import MiniConfigs, finding_at, run_doctor, severe

PLAIN = """
model['backbone'] = dict(
    _delete_=True, type='ResNet', depth=18, base_channels=8, num_stages=4, out_indices=(0, 1, 2, 3),
    frozen_stages=FROZEN, norm_cfg=dict(type='BN', requires_grad=True), norm_eval=True, style='pytorch'INIT)
optim_wrapper['constructor'] = 'DefaultOptimWrapperConstructor'
"""


def plain(frozen_stages: int, init: str = '') -> str:
    """Return settings that replace our backbone by mmdet's own ResNet."""
    return PLAIN.replace('FROZEN', str(frozen_stages)).replace('INIT', init)


@pytest.mark.parametrize('model', ['cascade', 'upernet'])
def test_correct_config_gives_no_warning(model: str, mini: MiniConfigs) -> None:
    findings = run_doctor(mini(model))
    assert not severe(findings)
    assert 'fills all' in finding_at(findings, 'model.backbone.init_cfg').found


def test_backbone_is_not_frozen(mini: MiniConfigs) -> None:
    weights = mini.base('cascade').parent / 'resnet18.pth'
    init = f", init_cfg=dict(type='Pretrained', checkpoint='{weights}')"
    findings = run_doctor(mini('cascade', plain(1, init)))
    found = finding_at(findings, 'model.backbone')
    state = torch.load(weights)
    params = {k: v.numel() for k, v in state.items() if 'running' not in k and 'num_batches' not in k}
    trained = sum(n for k, n in params.items() if k.startswith(('layer2', 'layer3', 'layer4')))
    assert found.level == 'warning'
    assert f'{trained:,} of its {sum(params.values()):,} parameters' in found.found
    assert 'ProTunedResNet' in found.advice
    # the parameters of the frozen stage are in the optimizer
    in_optimizer = finding_at(findings, 'optim_wrapper.constructor')
    frozen = [k for k in params if not k.startswith(('layer2', 'layer3', 'layer4'))]
    assert f'{len(frozen)} frozen parameters' in in_optimizer.found and 'backbone.conv1.weight' in in_optimizer.found
    assert 'TrainableOptimWrapperConstructor' in in_optimizer.advice


def test_our_constructor_keeps_frozen_parameters_out_of_the_optimizer(mini: MiniConfigs) -> None:
    extra = plain(1) + "optim_wrapper['constructor'] = 'protuning_mm.TrainableOptimWrapperConstructor'\n"
    assert 'optim_wrapper.constructor' not in [f.where for f in run_doctor(mini('cascade', extra))]


@pytest.mark.parametrize(('frozen_stages', 'level'), [(1, 'error'), (-1, 'warning')])
def test_plain_backbone_without_weights(frozen_stages: int, level: str, mini: MiniConfigs) -> None:
    found = finding_at(run_doctor(mini('cascade', plain(frozen_stages))), 'model.backbone.init_cfg')
    assert found.level == level and 'random' in found.found and 'Pretrained' in found.advice


def test_random_frozen_backbone(mini: MiniConfigs) -> None:
    extra = "model['backbone']['init_cfg'] = None\n"
    found = finding_at(run_doctor(mini('cascade', extra)), 'model.backbone.init_cfg')
    assert found.level == 'error' and 'random' in found.found and 'load_from' in found.advice
    allowed = run_doctor(mini('cascade', extra + "model['backbone']['allow_random_backbone'] = True\n"))
    assert finding_at(allowed, 'model.backbone.allow_random_backbone').level == 'warning'


def test_missing_checkpoint(mini: MiniConfigs) -> None:
    found = finding_at(run_doctor(mini('cascade', "model['backbone']['init_cfg']['checkpoint'] = 'no/such.pth'\n")),
               'model.backbone.init_cfg')  # fmt: skip
    assert found.level == 'error' and "'no/such.pth'" in found.found


def test_checkpoint_of_another_network(mini: MiniConfigs, tmp_path: Path) -> None:
    other = write_backbone(tmp_path / 'deep_stem.pth', 'mmseg', deep_stem=True)
    extra = f"model['backbone']['init_cfg']['checkpoint'] = '{other}'\n"
    found = finding_at(run_doctor(mini('cascade', extra)), 'model.backbone.init_cfg')
    assert found.level == 'error' and 'conv1.weight' in found.found and 'stem.0.weight' in found.found
    # mmdet only logs this if nothing is frozen
    init = f", init_cfg=dict(type='Pretrained', checkpoint='{other}')"
    warned = finding_at(run_doctor(mini('cascade', plain(-1, init))), 'model.backbone.init_cfg')
    assert warned.level == 'warning' and 'conv1.weight' in warned.found


def test_damaged_checkpoint(mini: MiniConfigs, tmp_path: Path) -> None:
    path = tmp_path / 'cut.pth'
    path.write_bytes(write_backbone(tmp_path / 'whole.pth').read_bytes()[:5000])
    extra = f"model['backbone']['init_cfg']['checkpoint'] = '{path}'\n"
    found = finding_at(run_doctor(mini('cascade', extra)), 'model.backbone.init_cfg')
    assert found.level == 'error' and str(path) in found.found


def test_download_is_announced_but_not_done(mini: MiniConfigs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    extra = "model['backbone']['init_cfg']['checkpoint'] = 'torchvision://resnet50'\n"
    found = finding_at(run_doctor(mini('cascade', extra)), 'model.backbone.init_cfg')
    assert found.level == 'info' and 'https://download.pytorch.org/models/resnet50' in found.found
    assert not list(tmp_path.iterdir())
    extra = extra.replace('resnet50', 'resnet51')
    assert finding_at(run_doctor(mini('cascade', extra)), 'model.backbone.init_cfg').level == 'error'


@pytest.mark.parametrize('address', ['timm://resnet18.a1_in1k', 'hf://someone/base'])
def test_addresses_whose_caches_are_those_of_other_libraries(mini: MiniConfigs, address: str) -> None:
    extra = f"model['backbone']['init_cfg']['checkpoint'] = {address!r}\n"
    found = finding_at(run_doctor(mini('cascade', extra)), 'model.backbone.init_cfg')
    assert found.level == 'info' and found.found == f'{address} will be downloaded, or taken from the cache'


def test_checkpoint_in_the_download_cache(mini: MiniConfigs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    (tmp_path / 'checkpoints').mkdir()
    write_backbone(tmp_path / 'checkpoints/resnet18-mine.pth')
    extra = "model['backbone']['init_cfg']['checkpoint'] = 'https://example.org/a/resnet18-mine.pth'\n"
    assert 'fills all' in finding_at(run_doctor(mini('cascade', extra)), 'model.backbone.init_cfg').found


def test_load_from(mini: MiniConfigs, tmp_path: Path) -> None:
    state = torch.load(write_backbone(tmp_path / 'plain.pth'))
    whole = tmp_path / 'whole.pth'
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in state.items()}), whole)
    extra = f"model['backbone']['init_cfg'] = None\nload_from = '{whole}'\n"
    findings = run_doctor(mini('cascade', extra))
    assert not severe(findings) and 'fills all' in finding_at(findings, 'load_from').found
    del state['layer4.1.conv2.weight']
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in state.items()}), whole)
    found = finding_at(run_doctor(mini('cascade', extra)), 'load_from')
    assert found.level == 'error' and 'layer4.1.conv2.weight' in found.found


def test_lr_mult_used_to_freeze(mini: MiniConfigs) -> None:
    init = f", init_cfg=dict(type='Pretrained', checkpoint='{mini.base('cascade').parent / 'resnet18.pth'}')"
    extra = plain(-1, init) + "optim_wrapper['paramwise_cfg'] = dict(custom_keys=dict(backbone=dict(lr_mult=0)))\n"
    findings = run_doctor(mini('cascade', extra))
    found = finding_at(findings, "optim_wrapper.paramwise_cfg.custom_keys['backbone'].lr_mult")
    assert found.level == 'warning' and 'does not freeze' in found.found and 'requires_grad=False' in found.advice
    params = [k for k in torch.load(mini.base('cascade').parent / 'resnet18.pth') if k.endswith(('weight', 'bias'))]
    assert f'{len(params)} parameters' in found.found


def test_lr_mult_of_frozen_parameters_gives_no_warning(mini: MiniConfigs) -> None:
    extra = "optim_wrapper['paramwise_cfg'] = dict(custom_keys={'backbone.layer1': dict(lr_mult=0)})\n"
    assert not severe(run_doctor(mini('cascade', extra)))


def test_custom_key_matches_nothing(mini: MiniConfigs) -> None:
    extra = "optim_wrapper['paramwise_cfg'] = dict(custom_keys=dict(backbon_=dict(lr_mult=0.1)))\n"
    found = finding_at(run_doctor(mini('cascade', extra)), "optim_wrapper.paramwise_cfg.custom_keys['backbon_']")
    assert found.level == 'warning'


def test_optimizer_cannot_be_built(mini: MiniConfigs) -> None:
    extra = "optim_wrapper['optimizer']['momentun'] = 0.9\n"
    found = finding_at(run_doctor(mini('cascade', extra)), 'optim_wrapper')
    assert found.level == 'error' and 'momentun' in found.found


@pytest.mark.parametrize(('batch', 'flags', 'warned'), [(1, (), True), (2, (), False), (1, ('--gpus', '2'), True)])
def test_batch_norm_with_one_image(batch: int, flags: tuple[str, ...], warned: bool, mini: MiniConfigs) -> None:
    """UPerNet's heads train batch norms; those of the frozen backbone are in eval mode and are not reported."""
    findings = run_doctor(mini('upernet', f"train_dataloader['batch_size'] = {batch}\n"), *flags)
    if not warned:
        assert not severe(findings)
        return
    found = finding_at(findings, 'train_dataloader.batch_size')
    assert found.level == 'warning' and 'one image' in found.found and 'decode_head' in found.found
    assert 'backbone' not in found.found and 'SyncBN' in found.advice


def test_sync_bn_without_and_with_several_processes(mini: MiniConfigs) -> None:
    extra = "bn['type'] = 'SyncBN'\ntrain_dataloader['batch_size'] = 1\n"
    single = run_doctor(mini('upernet', extra))
    assert finding_at(single, 'norm_cfg').level == 'info' and 'one process' in finding_at(single, 'norm_cfg').found
    assert finding_at(single, 'train_dataloader.batch_size').level == 'warning'
    several = run_doctor(mini('upernet', extra), '--gpus', '4')
    assert not {'norm_cfg', 'train_dataloader.batch_size'} & {f.where for f in several}


@pytest.mark.parametrize('model', ['cascade', 'upernet'])
def test_num_classes_differ_from_metainfo(model: str, mini: MiniConfigs) -> None:
    config = mini(model)
    config.write_text(config.read_text().replace('num_classes=3', 'num_classes=7'))
    head = 'model.roi_head.bbox_head.0.num_classes' if model == 'cascade' else 'model.decode_head.num_classes'
    found = finding_at(run_doctor(config), head)
    assert found.level == 'error' and found.found.startswith('7, but train_dataloader.dataset has 3 classes (a, b, c)')
    assert f'{head}=3' in found.advice


@pytest.mark.parametrize(
    ('scaling', 'flags', 'level', 'text'),
    [
        ('dict(base_batch_size=16, enable=False)', (), 'warning', '0.002 is meant for 16'),
        ('dict(base_batch_size=16, enable=True)', (), 'info', 'becomes 0.00025'),
        ('dict(base_batch_size=16, enable=False)', ('--gpus', '8'), None, ''),
        ('None', (), 'info', 'does not say'),
        ('dict(_delete_=True, enable=True)', (), 'error', 'does not say'),
    ],
)
def test_learning_rate(scaling: str, flags: tuple[str, ...], level: str | None, text: str, mini: MiniConfigs) -> None:
    findings = run_doctor(mini('cascade', f'auto_scale_lr = {scaling}\n'), *flags)
    found = [f for f in findings if f.where in ('auto_scale_lr', 'optim_wrapper.optimizer.lr')]
    assert [f.level for f in found] == ([level] if level else [])
    assert all(text in f.found for f in found)
    if level == 'warning':
        assert 'lr=0.00025' in found[0].advice and 'auto_scale_lr.enable=True' in found[0].advice


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    [
        'mmdet::htc/htc_r50_fpn_1x_coco.py',
        'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
        'mmdet::panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
        'mmdet::rpn/rpn_r50_fpn_1x_coco.py',
        'mmseg::san/san-vit-b16_voc12aug-640x640.py',
        'mmseg::stdc/stdc1_4xb12-80k_cityscapes-512x1024.py',
    ],
)
def test_heads_of_host_configs_match_their_data_sets(name: str, tmp_path: Path) -> None:
    """Things, stuff, boundaries and proposals: not every number of classes equals that of the data set."""
    config = tmp_path / 'config.py'
    config.write_text(f"_base_ = '{name}'\n")
    setup = TrainingSetup(Config.fromfile(config))
    build_model(setup)
    assert not list(check_num_classes(setup))
    assert num_classes_of(setup.model) or 'rpn' in name or 'san' in name
