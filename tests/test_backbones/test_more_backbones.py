"""Backbones beyond tests/families.py: pyramid transformers, BEiT, HRNet, and networks read from a trial run."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from protuning_mm import TunedBackbone, load_delta, save_delta
from protuning_mm.stages import ReadingError, read_stages
from protuning_mm.stages.layouts import MapsLast
from tests.families import flat
from tests.plain import disturb, fill, relative_error
from tests.test_backbones.test_loop import as_map, loop, own_features

_TWINS = dict(
    embed_dims=[8, 16, 24, 32],
    depths=[1, 2, 1, 1],
    num_heads=[1, 2, 4, 8],
    patch_sizes=[4, 2, 2, 2],
    strides=[4, 2, 2, 2],
    mlp_ratios=[2, 2, 2, 2],
    sr_ratios=[8, 4, 2, 1],
)
_PVT = dict(embed_dims=4, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 4, 8])
_BEIT = dict(embed_dims=16, num_layers=4, num_heads=2, img_size=32, patch_size=8)
_BRANCHES = dict(num_modules=1, block='BASIC')
_HRNET = dict(
    stage1=dict(num_modules=1, num_branches=1, block='BOTTLENECK', num_blocks=(1,), num_channels=(4,)),
    stage2=dict(**_BRANCHES, num_branches=2, num_blocks=(1, 1), num_channels=(4, 8)),
    stage3=dict(_BRANCHES, num_modules=2, num_branches=3, num_blocks=(1, 1, 1), num_channels=(4, 8, 16)),
    stage4=dict(**_BRANCHES, num_branches=4, num_blocks=(1, 1, 1, 1), num_channels=(4, 8, 16, 32)),
)
_PYRAMID = ['layers.0.1.0', 'layers.1.1.0', 'layers.2.1.0', 'layers.3.1.0']

# config, the ends of the stages, their channels: counted from the classes' code, not from a trial run
BACKBONES: dict[str, tuple[dict[str, Any], list[str], list[int]]] = {
    'mmdet.CSPNeXt': (
        dict(widen_factor=0.125, deepen_factor=0.33),
        ['stage1', 'stage2', 'stage3', 'stage4'],
        [16, 32, 64, 128],
    ),
    'mmdet.CSPDarknet': (
        dict(widen_factor=0.125, deepen_factor=0.33),
        ['stage1', 'stage2', 'stage3', 'stage4'],
        [16, 32, 64, 128],
    ),
    'mmdet.EfficientNet': (
        dict(arch='b0', out_indices=(3, 4, 5)),
        ['layers.2', 'layers.3', 'layers.4', 'layers.5'],
        [24, 40, 112, 320],
    ),
    'mmdet.MobileNetV2': (
        dict(widen_factor=0.25, out_indices=(1, 2, 4, 7)),
        ['layer2', 'layer3', 'layer5', 'conv2'],
        [8, 8, 24, 1280],
    ),
    'mmdet.PyramidVisionTransformer': (  # a position embedding precedes the block of each stage
        dict(_PVT, pretrain_img_size=64),
        [f'layers.{i}.1.1' for i in range(4)],
        [4, 8, 16, 32],
    ),
    'mmdet.PyramidVisionTransformerV2': (_PVT, _PYRAMID, [4, 8, 16, 32]),
    'mmdet.HRNet': (
        dict(extra=_HRNET),
        [
            *['layer1', 'stage2.0.branches.0', 'stage2.0.branches.1'],
            *[f'stage3.1.branches.{i}' for i in range(3)],
            *[f'stage4.0.branches.{i}' for i in range(4)],
        ],
        [16, 4, 8, 4, 8, 16, 4, 8, 16, 32],
    ),
    'mmseg.MixVisionTransformer': (_PVT, _PYRAMID, [4, 8, 16, 32]),
    'mmseg.PCPVT': (
        dict(_TWINS, norm_after_stage=True),
        ['position_encodings.0', 'layers.1.1', 'position_encodings.2', 'position_encodings.3'],
        [8, 16, 24, 32],
    ),
    'mmseg.SVT': (
        dict(_TWINS, norm_after_stage=False, windiow_sizes=[7, 7, 7, 7]),
        ['position_encodings.0', 'layers.1.1', 'position_encodings.2', 'position_encodings.3'],
        [8, 16, 24, 32],
    ),
    'mmseg.MSCAN': (
        dict(embed_dims=[8, 16, 24, 32], depths=[1, 2, 1, 1], norm_cfg=dict(type='BN')),
        ['block1.0', 'block2.1', 'block3.0', 'block4.0'],
        [8, 16, 24, 32],
    ),
    'mmseg.BEiT': (dict(_BEIT, out_indices=(1, 3)), [f'layers.{i}' for i in range(4)], [16] * 4),
    'mmseg.MAE': (dict(_BEIT, out_indices=(3,)), [f'layers.{i}' for i in range(4)], [16] * 4),
    'mmseg.MobileNetV2': (
        dict(widen_factor=0.25),
        ['layer2', 'layer3', 'layer5', 'layer7'],
        [8, 8, 24, 80],
    ),
    'mmpretrain.PCPVT': (
        dict(arch=_TWINS, out_indices=(1, 3), norm_after_stage=True),
        ['position_encodings.0', 'stages.1.1', 'position_encodings.2', 'position_encodings.3'],
        [8, 16, 24, 32],
    ),
    'mmpretrain.SVT': (
        dict(arch=dict(_TWINS, window_sizes=[7, 7, 7, 7])),
        ['position_encodings.0', 'stages.1.1', 'position_encodings.2', 'position_encodings.3'],
        [8, 16, 24, 32],
    ),
    'mmpretrain.BEiTViT': (
        dict(
            arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
            img_size=32,
            patch_size=8,
            out_type='featmap',
        ),
        [f'layers.{i}' for i in range(4)],
        [16] * 4,
    ),
    'mmpretrain.T2T_ViT': (
        dict(
            img_size=32,
            embed_dims=16,
            num_layers=4,
            t2t_cfg=dict(token_dims=8),
            layer_cfgs=dict(num_heads=2, feedforward_channels=32),
        ),
        [f'encoder.{i}' for i in range(4)],
        [16] * 4,
    ),
    'mmpretrain.MlpMixer': (
        dict(
            arch=dict(embed_dims=16, num_layers=4, tokens_mlp_dims=8, channels_mlp_dims=32), img_size=32, patch_size=8
        ),
        [f'layers.{i}' for i in range(4)],
        [16] * 4,
    ),
    'mmpretrain.VAN': (
        dict(arch=dict(embed_dims=[8, 16, 24, 32], depths=[1, 2, 1, 1], ffn_ratios=[2] * 4), out_indices=(1, 3)),
        ['blocks1.0', 'blocks2.1', 'blocks3.0', 'blocks4.0'],
        [8, 16, 24, 32],
    ),
    'mmpretrain.MobileNetV3': (
        dict(arch='small_075', out_indices=(12,)),
        ['layer1', 'layer3', 'layer8', 'layer12'],
        [16, 24, 40, 432],
    ),
    'mmpretrain.EfficientNet': (
        dict(arch='b0', out_indices=(3, 6)),
        ['layers.2', 'layers.3', 'layers.4', 'layers.6'],
        [24, 40, 112, 1280],
    ),
    'mmpretrain.PoolFormer': (
        dict(
            arch=dict(layers=[1, 1, 2, 1], embed_dims=[8, 16, 24, 32], mlp_ratios=[2] * 4, layer_scale_init_value=0.5)
        ),
        ['network.0', 'network.2', 'network.4', 'network.6'],
        [8, 16, 24, 32],
    ),
    'mmpretrain.ConvMixer': (
        dict(arch=dict(embed_dims=16, depth=8, patch_size=7, kernel_size=3)),
        [f'stages.{i}' for i in (0, 2, 4, 7)],
        [16] * 4,
    ),
}
TUNINGS: list[Any] = ['pro', 'lora', 'bias', 'partial', 'full', 'linear', 'side', 'ssf', dict(type='conv_adapter')]


def config(name: str) -> dict[str, Any]:
    __import__(f'{name.split(".")[0]}.models')
    return dict(BACKBONES[name][0], type=name)


def image(name: str) -> Tensor:
    size = 32 if any(kind in name for kind in ('BEiT', 'MAE', 'T2T', 'Mixer')) else 64
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(3)).double()


def tuned(name: str, tuning: Any = 'pro') -> TunedBackbone:
    torch.manual_seed(0)
    backbone = TunedBackbone(config(name), tuning, allow_random_backbone=True)
    fill(backbone)
    return backbone.double()


@pytest.mark.parametrize('name', BACKBONES)
def test_stages_as_counted_by_hand(name: str) -> None:
    stages = read_stages(MODELS.build(config(name))).stages
    assert [stage.end for stage in stages] == BACKBONES[name][1]
    assert [stage.channels for stage in stages] == BACKBONES[name][2]
    assert all(stage.blocks for stage in stages)


@pytest.mark.parametrize('name', BACKBONES)
def test_the_loop_is_the_backbone(name: str) -> None:
    backbone = tuned(name).eval()
    disturb(backbone.prompts)
    if not backbone.structure.in_sequence:
        with pytest.raises(TypeError, match='is no loop over stages'):
            backbone.features(image(name))
        return
    with torch.no_grad():
        got, expected = loop(backbone, image(name)), own_features(backbone, image(name))
    assert len(got) == len(expected) == len(backbone.prompts)
    for ours, feature in zip(got, expected):
        assert relative_error(ours, as_map(feature, ours, isinstance(backbone.structure.layout, MapsLast))) < 1e-10


@pytest.mark.parametrize('name', BACKBONES)
def test_a_step_changes_only_what_is_trained(name: str) -> None:
    for tuning in TUNINGS if name in ('mmdet.CSPNeXt', 'mmseg.MixVisionTransformer') else TUNINGS[:2]:
        if isinstance(tuning, dict) and name == 'mmseg.MixVisionTransformer':
            continue  # its blocks contain no convolution of the feature
        plain = fill(MODELS.build(config(name))).double()
        plain.eval()  # not chained, because eval() of some hosts returns None
        backbone = TunedBackbone(copy.deepcopy(plain), tuning, allow_random_backbone=True).eval()
        if tuning != 'side':  # whose network begins with random features
            for ours, expected in zip(flat(backbone(image(name))), flat(plain(image(name))), strict=True):
                assert relative_error(ours, expected) < 1e-9, tuning
        before = {key: value.clone() for key, value in backbone.frozen_tensors().items()}
        backbone.train()
        trained = {key: param for key, param in backbone.named_parameters() if param.requires_grad}
        if not trained:  # a linear probe trains only the head
            assert tuning == 'linear'
            continue
        optimizer = torch.optim.SGD(trained.values(), 0.1)
        for _ in range(2):  # the second layer of a block that begins as zero gets its gradient in the second step
            sum(out.square().mean() for out in flat(backbone(image(name)))).backward()
            optimizer.step()
        if tuning in ('pro', 'lora'):
            added = {key: param for key, param in trained.items() if key not in backbone.plain_keys}
            assert added and all(param.grad is not None and param.grad.any() for param in added.values()), tuning
        after = backbone.frozen_tensors()
        assert all(torch.equal(value, after[key]) for key, value in before.items()), tuning


@pytest.mark.parametrize('name', ['mmdet.CSPNeXt', 'mmdet.HRNet', 'mmseg.MSCAN', 'mmpretrain.BEiTViT'])
def test_a_delta_brings_the_trained_network_back(name: str, tmp_path: Path) -> None:
    base = tmp_path / 'base.pth'
    torch.save(tuned(name).float().plain.state_dict(), base)

    def load() -> TunedBackbone:
        backbone = TunedBackbone(config(name), init_cfg=dict(type='Pretrained', checkpoint=str(base)))
        backbone.init_weights()
        return backbone.eval()

    backbone = load()
    disturb(backbone.prompts)
    save_delta(backbone, tmp_path / 'delta.pth')
    again = load()
    load_delta(again, tmp_path / 'delta.pth')
    for ours, expected in zip(flat(again(image(name).float())), flat(backbone(image(name).float())), strict=True):
        assert torch.equal(ours, expected)


def test_pvt_loads_its_authors_weights(tmp_path: Path) -> None:
    """Their file has separate projections, linear layers instead of 1x1 convolutions, and a head."""
    plain = fill(MODELS.build(config('mmdet.PyramidVisionTransformerV2')))
    theirs: dict[str, Tensor] = {'head.weight': torch.zeros(5, 32)}
    for key, value in plain.state_dict().items():
        _, stage, part, *rest = key.split('.')
        name, number = '.'.join(rest), int(stage) + 1
        if part == '0':
            theirs[f'patch_embed{number}.{name.replace("projection", "proj")}'] = value
        elif part == '2':
            theirs[f'norm{number}.{name}'] = value
        elif 'in_proj_' in name:
            lead, kind = name.split('.')[0], name.split('_')[-1]
            for projection, rows in (('q', value[: len(value) // 3]), ('kv', value[len(value) // 3 :])):
                theirs[f'block{number}.{lead}.attn.{projection}.{kind}'] = rows
        else:
            for ours, written in (
                ('attn.attn.out_proj', 'attn.proj'),
                ('ffn.layers.0', 'mlp.fc1'),
                ('ffn.layers.1', 'mlp.dwconv.dwconv'),
                ('ffn.layers.4', 'mlp.fc2'),
            ):
                name = name.replace(ours, written)
            theirs[f'block{number}.{name}'] = value.flatten(1) if 'mlp.fc' in name and value.dim() == 4 else value
    torch.save(theirs, tmp_path / 'pvt.pth')
    cfg = config('mmdet.PyramidVisionTransformerV2') | dict(init_cfg=dict(checkpoint=str(tmp_path / 'pvt.pth')))
    backbone = TunedBackbone(cfg)
    backbone.init_weights()
    assert backbone.frozen_source == str(tmp_path / 'pvt.pth')
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in backbone.plain_tensors().items())


def test_hosts_wrapper_of_timm_loads_its_weights_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmdet's example of timm has a backbone with pretrained=True."""
    import timm

    create = timm.create_model
    plain = fill(create('resnet18', features_only=True))
    flags = []

    def create_filled(model_name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
        flags.append(pretrained)
        model: nn.Module = create(model_name, **kwargs)
        model.load_state_dict(plain.state_dict())
        return model

    monkeypatch.setattr(timm, 'create_model', create_filled)
    __import__('mmpretrain.models')
    wrapped = dict(type='mmpretrain.TIMMBackbone', model_name='resnet18', features_only=True, pretrained=True)
    backbone = TunedBackbone(wrapped)
    backbone.init_weights()
    assert flags == [True] and not backbone.needs_weights()
    own = {f'timm_model.{key}': value for key, value in plain.state_dict().items()}
    assert all(torch.equal(value, own[key]) for key, value in backbone.plain_tensors().items())
    ends = [stage.end.removeprefix('timm_model.') for stage in backbone.structure.stages]
    assert ends == ['act1', 'layer1', 'layer2', 'layer3', 'layer4']  # the first output has stride 2


class Network(nn.Module):
    """A stem of stride 4 and three stages, in one of several ways that are no sequence of modules."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.side = nn.Conv2d(3, 8, 1, stride=4)
        self.one = nn.Conv2d(8, 8, 3, padding=1)
        self.two = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.three = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        side = self.side(x) if self.kind == 'a branch from the image' else 0
        one = self.one(self.stem(x))
        if self.kind == 'a change in place':
            one += 1
        two = self.three(self.two(one))
        if self.kind == 'a fusion':
            return one + nn.functional.interpolate(two, scale_factor=2), two
        return one + side, two


def test_stages_of_a_network_of_one_s_own() -> None:
    stages = read_stages(Network('a sequence'))
    assert [stage.modules for stage in stages.stages] == [('stem', 'one'), ('two', 'three')]
    assert stages.outs == (0, 1)


@pytest.mark.parametrize('kind', ['a branch from the image', 'a change in place', 'a fusion'])
def test_what_features_would_leave_out_is_refused(kind: str) -> None:
    """The loop over the stages calls only their modules."""
    with pytest.raises(ReadingError, match=r"cannot be read.*register_reader\('tests.Network'\)"):
        read_stages(Network(kind))


def test_blocks_of_one_size_are_divided_inside_their_container() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 4, stride=4)
            self.blocks = nn.Sequential(*[nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()) for _ in range(8)])
            self.norm = nn.GroupNorm(1, 8)

        def forward(self, x: Tensor) -> tuple[Tensor]:
            return (self.norm(self.blocks(self.stem(x))),)

    # the stem and eight blocks
    assert [stage.end for stage in read_stages(Plain(), 4).stages] == [f'blocks.{i}' for i in (0, 2, 4, 7)]


class Branching(nn.Module):
    """Two branches that are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 8, 3, stride=4)
        self.other = nn.Conv2d(3, 8, 3, stride=4)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.one(x) + self.other(x),)


def test_a_network_that_is_no_sequence_is_refused_by_name() -> None:
    with pytest.raises(ReadingError, match=r"'other' does not run in sequence with one\..*register_reader\('tests\."):
        read_stages(Branching())
