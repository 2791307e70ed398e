"""Tiny members of every family of backbones, and settings of every tuning, for tests over both."""

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

_VIT = dict(img_size=32, patch_size=8, out_indices=(1, 3))
_ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
_SWIN = dict(embed_dims=8, depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4), window_size=4)
_REGNET = dict(w0=8, wa=8, wm=2.0, group_w=4, depth=6, bot_mul=1.0)

FAMILIES: dict[str, dict[str, Any]] = {
    'mmdet.ResNet': dict(type='mmdet.ResNet', depth=18, base_channels=8, stem_channels=8),
    'mmdet.ResNet50': dict(type='mmdet.ResNet', depth=50, base_channels=4, stem_channels=4),
    'mmseg.ResNetV1c': dict(
        type='mmseg.ResNetV1c',
        depth=50,
        base_channels=4,
        stem_channels=8,
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        contract_dilation=True,
    ),
    'mmpretrain.ResNetV1d': dict(
        type='mmpretrain.ResNetV1d', depth=18, base_channels=8, stem_channels=8, out_indices=(0, 1, 2, 3)
    ),
    'mmdet.ResNeXt': dict(
        type='mmdet.ResNeXt', depth=50, groups=4, base_width=4, base_channels=8, stem_channels=8, out_indices=(1, 2, 3)
    ),
    'mmdet.RegNet': dict(type='mmdet.RegNet', arch=_REGNET, stem_channels=8, base_channels=8),
    'mmpretrain.RegNet': dict(type='mmpretrain.RegNet', arch=_REGNET, stem_channels=8, out_indices=(0, 1, 2, 3)),
    'mmdet.Swin': dict(type='mmdet.SwinTransformer', **_SWIN),
    'mmseg.Swin': dict(type='mmseg.SwinTransformer', **_SWIN),
    'mmpretrain.Swin': dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=8, depths=[1, 1, 2, 1], num_heads=[1, 2, 2, 4]),
        img_size=64,
        window_size=4,
        pad_small_map=True,
        out_indices=(0, 1, 2, 3),
    ),
    'mmpretrain.ConvNeXt': dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32]),
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
        layer_scale_init_value=0.5,
    ),
    'mmseg.ViT': dict(
        type='mmseg.VisionTransformer', embed_dims=16, num_layers=4, num_heads=2, mlp_ratio=2, final_norm=True, **_VIT
    ),
    'mmpretrain.ViT': dict(type='mmpretrain.VisionTransformer', arch=_ARCH, out_type='featmap', **_VIT),
    'mmpretrain.ViT_cls': dict(
        type='mmpretrain.VisionTransformer', arch=_ARCH, img_size=32, patch_size=8, out_type='cls_token'
    ),
    'mmpretrain.DeiT': dict(
        type='mmpretrain.DistilledVisionTransformer', arch=_ARCH, img_size=32, patch_size=8, out_type='featmap'
    ),
    'timm.resnet': dict(
        type='timm', model_name='resnet18', channels=(8, 8, 16, 16), stem_width=4, out_indices=(0, 1, 2, 3)
    ),
    'timm.regnet': dict(
        type='timm', model_name='regnetx_002', depth=6, w0=8, wa=8.0, wm=2.0, group_size=4, stem_width=8
    ),
    'timm.vit': dict(
        type='timm',
        model_name='vit_tiny_patch16_224',
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=4,
        num_heads=2,
        dynamic_img_size=True,
        out_indices=(0, 1, 2, 3),
    ),
    'timm.deit': dict(
        type='timm',
        model_name='deit_tiny_distilled_patch16_224',
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=4,
        num_heads=2,
    ),
    'timm.swin': dict(
        type='timm',
        model_name='swin_tiny_patch4_window7_224',
        img_size=64,
        embed_dim=8,
        depths=(1, 1, 2, 1),
        num_heads=(1, 2, 2, 4),
        window_size=4,
        strict_img_size=False,
        out_indices=(0, 1, 2, 3),
    ),
    'timm.convnext': dict(
        type='timm', model_name='convnext_atto', depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), ls_init_value=0.5
    ),
}

TUNING_CFGS: dict[str, Any] = {
    'pro': dict(type='pro'),
    'linear': dict(type='linear'),
    'full': dict(type='full'),
    'partial': dict(type='partial', k=2),
    'bias': dict(type='bias'),
    'norm': dict(type='norm'),
    'side': dict(type='side', width=4),
    'adapter': dict(type='adapter', variant=1, reduction=4),
    'adapter 2': dict(type='adapter', variant=2, reduction=4),
    'adaptformer': dict(type='adaptformer', hidden=4),
    'conv_adapter': dict(type='conv_adapter', reduction=4),
    'vpt': dict(type='vpt', number=3),
    'vpt deep': dict(type='vpt', number=3, deep=True),
    'lora': dict(type='lora', rank=1),
    'dora': dict(type='dora', rank=1),
    'mona': dict(type='mona', hidden=4, dropout=0.0),
    'ladder': dict(type='ladder'),
    'rein': dict(type='rein', number=3, rank=2),
    'ssf': dict(type='ssf'),
    'ia3': dict(type='ia3'),
    'pro, bias': [dict(type='pro'), dict(type='bias')],
    'lora, ssf': [dict(type='lora', rank=1), dict(type='ssf')],
}
PLAIN_VITS = {'mmseg.ViT', 'mmpretrain.ViT', 'mmpretrain.ViT_cls', 'mmpretrain.DeiT', 'timm.vit', 'timm.deit'}


def build_plain(family: str) -> nn.Module:
    """The host's own model."""
    import timm

    cfg = dict(FAMILIES[family])
    if cfg['type'] == 'timm':
        cfg.pop('type')
        cfg.pop('out_indices', None)
        return timm.create_model(num_classes=0, **cfg)
    __import__(f'{cfg["type"].split(".")[0]}.models')
    return MODELS.build(cfg)


def accepts(family: str, tuning: str) -> bool:
    """Which tunings fit which family: transformers have MLPs, the rest convolutions; plain ones one sequence."""
    vit = family in PLAIN_VITS
    transformer = vit or family.lower().endswith('swin')
    if tuning.startswith('vpt') or tuning == 'rein':
        return vit
    if tuning == 'ia3':
        return transformer and family != 'mmseg.ViT'  # torch.nn.MultiheadAttention has one tensor for all projections
    if tuning.startswith('adapt') or tuning == 'mona':
        return transformer
    if tuning == 'conv_adapter':
        return not transformer
    return True


CELLS = [(family, tuning) for family in FAMILIES for tuning in TUNING_CFGS if accepts(family, tuning)]
REFUSED = [(family, tuning) for family in FAMILIES for tuning in TUNING_CFGS if not accepts(family, tuning)]


def images(family: str, batch: int = 2, size: tuple[int, int] | None = None) -> Tensor:
    """Random images of a size that the family takes."""
    if size is None:
        size = (32, 32) if family in PLAIN_VITS else (64, 64)
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(3))


def flat(outs: Any) -> list[Tensor]:
    """Every tensor of what a backbone returned."""
    if isinstance(outs, Tensor):
        return [outs]
    return [tensor for out in outs for tensor in flat(out)]
