"""Every family in a detector, a segmentor and a classifier of the hosts: a loss, its gradients, and predictions."""

from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from protuning_mm import TunedBackbone
from tests.families import FAMILIES, PLAIN_VITS, flat, images

TIMM_POOLED = {'timm.regnet', 'timm.deit', 'timm.convnext'}
# mmpretrain's necks take no list; it has a Swin of its own
LISTS = ('mmdet.Swin', 'mmseg.Swin')
# what gives a pyramid, or can be asked for one
PYRAMIDS = [f for f in FAMILIES if f != 'mmpretrain.ViT_cls']


def pyramid_of(family: str) -> dict[str, Any]:
    """Four outputs; where the family's tiny member has a fixed size, that size is the images'."""
    cfg = FAMILIES[family] | dict(out_indices=(0, 1, 2, 3))
    if family in PLAIN_VITS:
        cfg |= dict(img_size=64)
    if family == 'mmseg.ViT':
        cfg |= dict(img_size=(64, 64))
    return cfg


def build(scope: str, cfg: dict[str, Any]) -> nn.Module:
    init_default_scope(scope)
    with MODELS.switch_scope_and_registry(scope) as registry:
        return registry.build(ConfigDict(cfg))


def check_step(model: nn.Module, losses: dict[str, Any]) -> None:
    """The loss is finite, and exactly what is trained has a gradient."""
    total = sum(part.mean() for loss in losses.values() for part in flat(loss) if part.requires_grad)
    assert torch.isfinite(total)
    total.backward()
    tuned = model.backbone
    assert type(tuned) is TunedBackbone
    for name, param in tuned.named_parameters():
        assert (param.grad is not None) == param.requires_grad == name.startswith('prompts.'), name


def channels_of(cfg: dict[str, Any]) -> list[int]:
    reading = TunedBackbone(cfg, 'linear').structure
    return [reading.channels[i] for i in reading.outs]


@pytest.mark.parametrize('family', PYRAMIDS)
def test_in_a_detector(family: str) -> None:
    from mmdet.testing import demo_mm_inputs

    cfg = pyramid_of(family)
    channels = channels_of(cfg)
    fpn = dict(type='FPN', in_channels=channels, out_channels=8, num_outs=5)
    pyramid = dict(type='mmseg.Feature2Pyramid', embed_dim=channels[0], norm_cfg=dict(type='BN'))
    model = build(
        'mmdet',
        dict(
            type='RetinaNet',
            data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
            backbone=dict(type='protuning_mm.TunedBackbone', backbone=cfg, allow_random_backbone=True),
            neck=[pyramid, fpn] if family in PLAIN_VITS else fpn,
            bbox_head=dict(
                type='RetinaHead',
                num_classes=3,
                in_channels=8,
                feat_channels=8,
                stacked_convs=1,
                anchor_generator=dict(
                    type='AnchorGenerator',
                    octave_base_scale=4,
                    scales_per_octave=1,
                    ratios=[1.0],
                    strides=[8, 16, 32, 64, 128],
                ),
                bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            ),
            train_cfg=dict(
                assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
                sampler=dict(type='PseudoSampler'),
                allowed_border=-1,
                pos_weight=-1,
            ),
            test_cfg=dict(nms_pre=10, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5),
        ),
    )
    data = demo_mm_inputs(2, [[3, 64, 64]] * 2, num_classes=3)
    data = model.data_preprocessor(data, training=True)
    check_step(model.train(), model(**data, mode='loss'))
    model.eval()
    with torch.no_grad():
        assert len(model(**data, mode='predict')) == 2


@pytest.mark.parametrize('family', PYRAMIDS)
def test_in_a_segmentor(family: str) -> None:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    cfg = pyramid_of(family)
    channels = channels_of(cfg)
    neck = dict(type='MultiLevelNeck', in_channels=channels, out_channels=8, scales=[4, 2, 1, 0.5])
    model = build(
        'mmseg',
        dict(
            type='EncoderDecoder',
            backbone=dict(type='protuning_mm.TunedBackbone', backbone=cfg, allow_random_backbone=True),
            neck=neck if family in PLAIN_VITS else None,
            decode_head=dict(
                type='UPerHead',
                in_channels=[8] * 4 if family in PLAIN_VITS else channels,
                in_index=[0, 1, 2, 3],
                pool_scales=(1, 2),
                channels=8,
                num_classes=3,
                norm_cfg=dict(type='BN'),
            ),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        ),
    )
    maps = torch.randint(0, 3, (2, 1, 64, 64))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=m), metainfo=dict(img_shape=(64, 64))) for m in maps]
    x = images(family, size=(64, 64))
    model.train()
    check_step(model, model(x, samples, mode='loss'))
    model.eval()
    with torch.no_grad():
        assert model(x, None, mode='tensor').shape[1] == 3


@pytest.mark.parametrize('family', [f for f in FAMILIES if f not in LISTS])
def test_in_a_classifier(family: str) -> None:
    """Pooled where the backbone is not; a model of timm without out_indices is."""
    from mmpretrain.structures import DataSample

    cfg = dict(FAMILIES[family])
    model = build(
        'mmpretrain',
        dict(
            type='ImageClassifier',
            backbone=dict(type='protuning_mm.TunedBackbone', backbone=cfg, allow_random_backbone=True),
            neck=None if family in TIMM_POOLED or family == 'mmpretrain.ViT_cls' else dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=channels_of(cfg)[-1], topk=(1,)),
        ),
    )
    x: Tensor = images(family)
    samples = [DataSample().set_gt_label(i) for i in range(2)]
    model.train()
    check_step(model, model(x, samples, mode='loss'))
    model.eval()
    with torch.no_grad():
        assert len(model(x, samples, mode='predict')) == 2
