"""Builds whole models for the benchmark of frozen execution: random images, real samplers and losses."""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from protuning_mm.cli.count_params import CONFIGS

PLAIN, EFFICIENT, HOST = 'Pro-Tuning, plain torch', 'Pro-Tuning, efficient', "host's default"
INT8, RECOMPUTE, CHECKPOINTED = 'Pro-Tuning, int8', 'Pro-Tuning, recompute', 'Pro-Tuning, checkpointed stages'
# our config, and the host library's config that it inherits
_CONFIGS = {
    'cascade_mask_rcnn': (
        'det/cascade_mask_rcnn_r50_protune.py',
        'mmdet::cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
    ),
    'htc': ('det/htc_r50_protune.py', 'mmdet::htc/htc_r50_fpn_1x_coco.py'),
    'fcn': ('seg/fcn_r50_protune.py', 'mmseg::fcn/fcn_r50-d8_4xb4-160k_ade20k-512x512.py'),
    'upernet': ('seg/upernet_r50_protune.py', 'mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py'),
}
_SETTINGS: dict[str, dict[str, Any] | None] = {
    'full fine-tuning': dict(tuning='full'),
    HOST: None,
    PLAIN: dict(efficient_frozen=False),
    EFFICIENT: dict(efficient_frozen=True),
}
# model -> methods to compare
MODELS_OF = {name: tuple(_SETTINGS) for name in _CONFIGS}


def build_step(
    name: str, method: str, args: argparse.Namespace
) -> tuple[nn.Module, argparse.Namespace, Callable[[], Tensor]]:
    """Build a model in training mode and a function that computes its loss on random images.

    Args:
        name (str): One of :data:`MODELS_OF`.
        method (str): One of its methods.
        args (Namespace): ``batch``, ``size`` (height, width) and ``device``.

    Returns:
        tuple: The model, ``args``, and the function, which takes no arguments and returns the loss.
    """
    ours, theirs = _CONFIGS[name]
    host, changes = theirs.split('::')[0], _SETTINGS[method]
    if changes is None:
        model = get_config(theirs).model
    else:
        model = Config.fromfile(CONFIGS / ours).model
        model.backbone.update(changes, allow_random_backbone=True)
    for part in (model, model.backbone):  # random weights, so that nothing is downloaded
        part.pop('init_cfg', None)
        part.pop('pretrained', None)
    if host == 'mmseg':
        model.data_preprocessor.size = tuple(args.size)
    torch.manual_seed(0)
    init_default_scope(host)
    net = revert_sync_batchnorm(MODELS.build(model)).to(args.device)
    net.train()
    data = _detection_data(args) if host == 'mmdet' else _segmentation_data(args)

    def loss() -> Tensor:
        torch.manual_seed(0)  # the samplers use random numbers
        found: Tensor = net.parse_losses(net(**net.data_preprocessor(data, training=True), mode='loss'))[0]
        return found

    return net, args, loss


def _detection_data(args: argparse.Namespace) -> dict[str, Any]:
    from mmdet.testing import demo_mm_inputs

    shapes = [(3, *args.size)] * args.batch
    torch.manual_seed(0)
    data: dict[str, Any] = demo_mm_inputs(
        args.batch,
        shapes,
        num_items=[7] * args.batch,
        num_classes=80,
        with_mask=True,
        with_semantic=True,
        sem_seg_output_strides=8,
    )
    return data


def _segmentation_data(args: argparse.Namespace) -> dict[str, Any]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(args.batch):
        sample = SegDataSample(metainfo=dict(img_shape=tuple(args.size), ori_shape=tuple(args.size)))
        sample.gt_sem_seg = PixelData(data=torch.randint(150, (1, *args.size), generator=generator))
        samples.append(sample)
    images = [torch.randint(256, (3, *args.size), generator=generator, dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)
