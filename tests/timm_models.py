"""One small model of every module of timm.models, and which tunings are refused on it.

The model of a module is the smallest by parameters of those that timm does not call deprecated. Where that is still
large, arguments make it smaller. A module that a later timm adds is missed by tests/test_backbones/test_timm_models.py.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Small:
    """A model.

    Args:
        name (str): Its name in timm.
        size (int): Height and width of an image that it takes. Defaults to 64.
        given (dict): Arguments that make it smaller.
        gain (float): What its random weights are multiplied by, where attention would saturate and rounding decide the
            gradients. Defaults to 1.
    """

    name: str
    size: int = 64
    given: Any = None
    gain: float = 1


_VIT = dict(img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2)
_NARROW = dict(embed_dim=24, depths=(1, 1, 1, 1))

MODELS: dict[str, Small] = {
    'beit': Small('beit_base_patch16_224', 32, _VIT),
    'byoanet': Small('halonet_h1', 256, dict(width_factor=0.25)),
    'byobnet': Small('test_byobnet'),
    'cait': Small('cait_xxs24_224', 32, dict(_VIT)),
    'coat': Small('coat_tiny'),
    'convit': Small('convit_tiny', 32, dict(_VIT)),
    'convmixer': Small('convmixer_768_32', 32),
    'convnext': Small('test_convnext'),
    'cpubone': Small('cpubone_nano'),
    'crossvit': Small('crossvit_tiny_240'),
    'csatv2': Small('csatv2'),
    'cspnet': Small('cs3darknet_focus_s'),
    'cspnext': Small('cspnext_tiny'),
    'davit': Small('davit_tiny'),
    'deepseek_vit': Small('deepseek_vit_412m', 126, dict(embed_dim=24, depth=4, num_heads=2)),
    'deit': Small('deit_tiny_patch16_224', 32, _VIT),
    'densenet': Small('densenet121'),
    'dla': Small('dla46x_c'),
    'dpn': Small('dpn48b'),
    'edgenext': Small('edgenext_xx_small'),
    'efficientformer': Small('efficientformer_l1', 224),
    'efficientformer_v2': Small('efficientformerv2_s0', 224),
    'efficientnet': Small('test_efficientnet'),
    'efficientvim': Small('efficientvim_m1'),
    'efficientvit_mit': Small('efficientvit_b0'),
    'efficientvit_msra': Small('efficientvit_m0', 224),
    'eva': Small('vit_tiny_patch16_dinov3_qkvb', 32, _VIT),
    'fasternet': Small('fasternet_t0'),
    'fastvit': Small('fastvit_t8'),
    'focalnet': Small('focalnet_tiny_srf'),
    'gcvit': Small('gcvit_xxtiny', 224),
    'gemma4_vit': Small('gemma4_vit_167m'),
    'ghostnet': Small('ghostnet_050'),
    'hardcorenas': Small('hardcorenas_b'),
    'hgnet': Small('hgnetv2_b0'),
    'hiera': Small('hiera_tiny_224', given=dict(img_size=64, embed_dim=24, stages=(1, 1, 2, 1))),
    'hieradet_sam2': Small('sam2_hiera_tiny', given=dict(embed_dim=24)),
    'hrnet': Small('hrnet_w18_small'),
    'iformer': Small('iformer_t'),
    'inception_next': Small('inception_next_atto'),
    'inception_resnet_v2': Small('inception_resnet_v2', 96),
    'inception_v3': Small('inception_v3', 96),
    'inception_v4': Small('inception_v4', 96),
    'lcnetv2': Small('lcnetv2_small'),
    'levit': Small('levit_128s', 224),
    'lowformer': Small('lowformer_b0'),
    'mambaout': Small('test_mambaout'),
    'maxxvit': Small('test_coatnet', 160),
    'metaformer': Small('poolformerv2_s12'),
    'mlp_mixer': Small('gmlp_ti16_224', 224),
    'mobilenetv3': Small('mobilenetv3_small_050'),
    'mobilenetv5': Small('mobilenetv5_base'),
    'mobilevit': Small('mobilevit_xxs'),
    'mvitv2': Small('mvitv2_tiny'),
    'naflexvit': Small('naflexvit_base_patch16_parfac_gap'),
    'nasnet': Small('nasnetalarge'),
    'nest': Small('nest_tiny_jx', given=dict(img_size=64)),
    'nextvit': Small('nextvit_small', gain=0.2),
    'nfnet': Small('test_nfnet'),
    'pit': Small('pit_ti_224', 224),
    'pnasnet': Small('pnasnet5large'),
    'pvt_v2': Small('pvt_v2_b0'),
    'qwen3_vit': Small('qwen3_vit_88m', 64, dict(embed_dim=24, depth=4, num_heads=2)),
    'rdnet': Small('rdnet_tiny'),
    'regnet': Small('regnetx_002'),
    'repghost': Small('repghostnet_050'),
    'repvit': Small('repvit_m1'),
    'res2net': Small('res2next50'),
    'resnest': Small('resnest14d'),
    'resnet': Small('test_resnet'),
    'resnetv2': Small('resnetv2_18'),
    'rexnet': Small('rexnet_100'),
    'selecsls': Small('selecsls42'),
    'senet': Small('legacy_seresnet18'),
    'sequencer': Small('sequencer2d_s', given=dict(img_size=64, layers=(1, 1, 1, 1))),
    'shvit': Small('shvit_s1'),
    'sknet': Small('skresnet18'),
    'starnet': Small('starnet_s050'),
    'swiftformer': Small('swiftformer_xs', 224),
    'swin_transformer': Small(
        'swin_tiny_patch4_window7_224', given=dict(img_size=64, window_size=4, num_heads=(1, 2, 2, 4), **_NARROW)
    ),
    'swin_transformer_v2': Small(
        'swinv2_tiny_window16_256', given=dict(img_size=64, window_size=4, num_heads=(1, 2, 2, 4), **_NARROW)
    ),
    'swin_transformer_v2_cr': Small(
        'swinv2_cr_tiny_224', given=dict(img_size=64, window_size=2, num_heads=(1, 2, 2, 4), **_NARROW)
    ),
    'tiny_vit': Small(
        'tiny_vit_5m_224',
        given=dict(embed_dims=(16, 32, 48, 64), depths=(1, 1, 2, 1), num_heads=(1, 2, 3, 4), window_sizes=(2, 2, 2, 2)),
    ),
    'tnt': Small('tnt_s_legacy_patch16_224'),
    'tresnet': Small('tresnet_m'),
    'twins': Small('twins_svt_small'),
    'vgg': Small('vgg11'),
    'visformer': Small('visformer_tiny', 224),
    'vision_transformer': Small('test_vit', 160),
    'vision_transformer_hybrid': Small('vit_tiny_r_s16_p8_224', 224),
    'vision_transformer_relpos': Small('test_vit_relpos', 160),
    'vision_transformer_sam': Small('samvit_base_patch16_224', 32, dict(**_VIT, window_size=2)),
    'vitamin': Small('vitamin_small_224', given=dict(img_size=64)),
    'volo': Small('volo_d1_224', given=dict(img_size=64)),
    'vovnet': Small('ese_vovnet19b_slim_dw'),
    'xception': Small('legacy_xception'),
    'xception_aligned': Small('xception41p'),
    'xcit': Small('xcit_nano_12_p8_224'),
}

ONE_STAGE = {'xception_aligned'}

# refused, whatever the tuning: timm's own information cannot be followed
UNREAD = (
    'coat',
    'crossvit',
    'gemma4_vit',
    'hrnet',
    'mobilenetv5',
    'mvitv2',
    'naflexvit',
    'nasnet',
    'pnasnet',
    'tnt',
    'tresnet',
    'twins',
    'vgg',
    'xception',
    'xcit',
)
# refused where something is added behind a stage: features there are neither maps nor patches behind a known prefix
MISREAD = (
    'cait',
    'convit',
    'deepseek_vit',
    'efficientformer',
    'efficientvim',
    'hiera',
    'levit',
    'mlp_mixer',
    'pit',
    'qwen3_vit',
    'selecsls',
    'vision_transformer_sam',
    'volo',
)
_ALL = ('pro', 'linear', 'lora', 'full')
REFUSED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(UNREAD, _ALL),
    **dict.fromkeys(MISREAD, ('pro',)),
    'convmixer': ('lora',),  # depth-wise convolutions and narrow ones: no layer is larger than its update
}
# the pyramid of tests/test_backbones/test_timm_models.py ends before the last stage, which alone has other features
NOT_AS_PYRAMID = {('efficientformer', 'pro')}
# of different kinds, for make test
QUICK: set[tuple[str, str, str]] = {
    ('resnet', 'pyramid', 'pro'),
    ('regnet', 'pooled', 'lora'),
    ('efficientnet', 'pooled', 'pro'),
    ('mobilenetv3', 'pyramid', 'pro'),
    ('nfnet', 'pooled', 'pro'),
    ('convnext', 'pyramid', 'full'),
    ('byobnet', 'pooled', 'lora'),
    ('swin_transformer', 'pyramid', 'pro'),
    ('swin_transformer_v2', 'pooled', 'lora'),
    ('vision_transformer', 'pooled', 'pro'),
    ('beit', 'pyramid', 'lora'),
    ('starnet', 'pooled', 'full'),
    ('cait', 'pooled', 'pro'),
    ('coat', 'pyramid', 'linear'),
    ('ghostnet', 'pooled', 'linear'),
}
