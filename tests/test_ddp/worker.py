"""What each of two CPU ranks runs: three steps of a small model under the hosts' DDP, everything worth comparing saved.

torchrun --nproc_per_node 2 worker.py MODEL OUT
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

import protuning_mm  # noqa: F401

STEPS = 3
RANKS = 2


def build(kind: str) -> nn.Module:
    """A classifier, or FCN with GN heads and no dropout: models whose loss is the mean over images, exactly."""
    torch.manual_seed(0)
    init_default_scope('mmpretrain' if kind == 'classifier' else 'mmseg')
    backbone = dict(type='protuning_mm.ProTunedResNet', depth=18, base_channels=8)
    if kind == 'classifier':
        cfg = dict(
            type='ImageClassifier',
            backbone=backbone | dict(out_indices=(3,)),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=64, topk=(1,)),
        )
    else:
        head = dict(
            type='FCNHead',
            num_classes=5,
            dropout_ratio=0.0,
            norm_cfg=dict(type='GN', num_groups=2),
            channels=8,
            num_convs=1,
        )
        cfg = dict(
            type='EncoderDecoder',
            backbone=backbone,
            decode_head=head | dict(in_channels=64, in_index=3),
            auxiliary_head=head | dict(in_channels=32, in_index=2),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    with MODELS.switch_scope_and_registry('mmpretrain' if kind == 'classifier' else 'mmseg') as reg:
        model = reg.build(cfg)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # nothing zero, so that every gradient is alive
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    model.train()
    return model


def batch(kind: str, step: int) -> tuple[Tensor, list]:
    """The global batch of a step: four images with their samples."""
    generator = torch.Generator().manual_seed(10 + step)
    images = torch.randn(2 * RANKS, 3, 64, 64, generator=generator)
    if kind == 'classifier':
        from mmpretrain.structures import DataSample

        labels = torch.randint(0, 5, (2 * RANKS,), generator=generator)
        return images, [DataSample().set_gt_label(int(label)) for label in labels]
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    maps = torch.randint(0, 5, (2 * RANKS, 1, 64, 64), generator=generator)
    return images, [SegDataSample(gt_sem_seg=PixelData(data=m)) for m in maps]


def loss_of(model: nn.Module, kind: str, images: Tensor, samples: list) -> Tensor:
    losses = model(images, samples, mode='loss')
    return sum(value for name, value in losses.items() if 'loss' in name)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    named = model.named_parameters()
    return {n.removeprefix('module.'): p.grad.clone() for n, p in named if p.grad is not None}


def train(model: nn.Module, kind: str, part: slice) -> dict[str, Tensor]:
    """Take three SGD steps on a part of each global batch; return the first step's gradients."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.05, momentum=0.9)
    first: dict[str, Tensor] = {}
    for step in range(STEPS):
        images, samples = batch(kind, step)
        optimizer.zero_grad()
        loss_of(model, kind, images[part], samples[part]).backward()
        first = first or gradients(model)
        optimizer.step()
    return first


def main() -> None:
    kind, out = sys.argv[1], Path(sys.argv[2])
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    part = slice(2 * rank, 2 * rank + 2)

    alone = build(kind)
    images, samples = batch(kind, 0)
    loss_of(alone, kind, images[part], samples[part]).backward()

    model = build(kind)
    wrapped = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
    travelled = []

    def count(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        travelled.append(bucket.buffer().numel())
        return allreduce_hook(None, bucket)

    wrapped.register_comm_hook(None, count)
    reduced = train(wrapped, kind, part)
    torch.save(
        dict(
            own=gradients(alone),
            reduced=reduced,
            travelled=sum(travelled),
            weights=model.state_dict(),
        ),
        out / f'rank{os.environ["RANK"]}.pth',
    )
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
