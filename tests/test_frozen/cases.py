"""Random residual blocks of every host, and how often a property is tried."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.plain import fill

HOSTS = ('mmdet', 'mmseg', 'mmpretrain', 'timm', 'torchvision')


def run_often(examples: int) -> Callable[..., Any]:
    """Try a property on ``examples`` draws, the same ones at every run."""
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


def make_block(
    host: str,
    kind: str,
    channels: int,
    planes: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    style: str = 'pytorch',
    groups: int = 1,
    group_width: int = 1,
    downsample: nn.Module | None = None,
) -> nn.Module:
    """A block of the host's own class; its output has ``planes`` channels, or four times as many (Bottleneck)."""
    where = f'{host}.models.resnet' if host in ('timm', 'torchvision') else f'{host}.models.backbones.resnet'
    where += 'xt' * (groups > 1 and host.startswith('mm'))
    where = where.replace('resnetxt', 'resnext')
    kwargs: dict[str, Any] = dict(stride=stride, dilation=dilation, downsample=downsample)
    if host.startswith('mm') and kind == 'Bottleneck':
        kwargs['style'] = style
    if groups > 1 and host == 'mmpretrain':
        kwargs |= dict(groups=groups, base_channels=planes, width_per_group=group_width)
    elif groups > 1 and host.startswith('mm'):
        kwargs |= dict(groups=groups, base_channels=planes, base_width=group_width)
    elif groups > 1:
        kwargs |= {
            'cardinality' if host == 'timm' else 'groups': groups,
            'base_width': 64 * group_width / planes + 1e-9,
        }
    if host == 'mmpretrain':
        planes *= 4 if kind == 'Bottleneck' else 1
    return getattr(importlib.import_module(where), kind)(channels, planes, **kwargs)


def make_shortcut(channels: int, out: int, stride: int, averaged: bool, kernel: int = 1) -> nn.Sequential:
    """What the hosts put there: a convolution, or with ``averaged`` (V1d) a pooling and a convolution; and a norm."""
    parts: list[nn.Module] = []
    if averaged:
        parts.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
        stride = 1
    parts += [nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)]
    return nn.Sequential(*parts)


@st.composite
def blocks(draw: Callable[..., Any]) -> tuple[nn.Module, Tensor]:
    """A frozen block in eval mode, and an input: random type, widths, strides, dilations, groups, sizes, statistics."""
    host = draw(st.sampled_from(HOSTS))
    kind = draw(st.sampled_from(['BasicBlock', 'Bottleneck']))
    groups = draw(st.sampled_from([1, 2, 3])) if kind == 'Bottleneck' else 1
    planes = draw(st.integers(1, 8))
    out = planes * (4 if kind == 'Bottleneck' else 1)
    stride = draw(st.integers(1, 3))
    dilation = 1 if (host, kind) == ('torchvision', 'BasicBlock') else draw(st.integers(1, 3))
    channels = draw(st.one_of(st.just(out), st.integers(1, 12)))
    downsample = None
    if stride > 1 or channels != out:
        downsample = make_shortcut(channels, out, stride, draw(st.booleans()), draw(st.sampled_from([1, 1, 3])))
    block = make_block(
        host,
        kind,
        channels,
        planes,
        stride=stride,
        dilation=dilation,
        style=draw(st.sampled_from(['pytorch', 'caffe'])),
        groups=groups,
        group_width=draw(st.integers(1, 4)),
        downsample=downsample,
    )
    seed = draw(st.integers(0, 999))
    fill(block, seed).eval().requires_grad_(False)
    size = draw(st.tuples(st.integers(1, 3), st.just(channels), st.integers(1, 17), st.integers(1, 17)))
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    if draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last)
    if draw(st.booleans()):
        block = block.to(memory_format=torch.channels_last)
    return block, x


def output_and_grad(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What a module returns, and the gradient of its input for a fixed random gradient of its output."""
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(leaf)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(5)).to(y.dtype))
    assert leaf.grad is not None
    return y.detach(), leaf.grad
