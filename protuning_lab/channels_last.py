"""A hook that stores a model's weights in channels-last order."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Convert the weights of the convolutions to ``torch.channels_last`` before a run.

    Every convolution then computes channels-last feature maps. On a CPU this makes EfficientNets about twice as fast
    (docs/performance.md). Results differ by rounding. mmcv's operators, such as RoIAlign, read feature maps as
    contiguous whatever their strides are; they get contiguous ones.
    """

    def before_run(self, runner: Any) -> None:
        runner.model.to(memory_format=torch.channels_last)
        for module in runner.model.modules():
            if type(module).__module__.startswith('mmcv.ops.'):
                module.to(memory_format=torch.contiguous_format)
                module.register_forward_pre_hook(_make_contiguous)


def _make_contiguous(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg.contiguous() if isinstance(arg, Tensor) else arg for arg in args)
