"""The prompt block of Pro-Tuning.

Paper: *Pro-tuning: Unified Prompt Tuning for Vision Tasks* (Nie et al., arXiv 2207.14381, IEEE TCSVT 2024).
From the paper: 1x1 conv -> depth-wise conv (5x5) -> 1x1 conv after every stage, its output added to the feature
map. Our choice, because the paper leaves it open: the norm and the activation between the convolutions, the biases, the
exact hidden width (0.32 C, rounded to a multiple of 8; derived from the published parameter counts), the initial
values, and the scale of the prompt.
"""

from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.blocks.layers import LayerCfg, build_act, build_norm
from protuning_mm.frozen.conditions import is_ordinary_call, is_watched
from protuning_mm.frozen.memory_efficient_blend import MemoryEfficientBlend, norm_act

NORM: LayerCfg = {'type': 'GN', 'num_groups': 1}
ACT: LayerCfg = {'type': 'GELU'}
INITS = ('zero_conv', 'zero_scale', 'random')


def hidden_width(channels: int, ratio: float) -> int:
    """Round ``ratio * channels`` to the nearest multiple of 8, which suits tensor cores; at least 8."""
    return max(8, 8 * round(ratio * channels / 8))


class PromptBlock(nn.Module):
    """Computes an image-dependent prompt from a stage's feature map.

    Args:
        channels (int): Channels C of the feature map and of the prompt.
        ratio (float): Hidden width as a share of C, rounded to a multiple of 8. Defaults to 0.32.
        kernel_size (int): Kernel size of the depth-wise convolution; must be odd. Defaults to 5.
        norm_cfg (dict, optional): Norm after each of the first two convolutions: ``BN``, ``SyncBN``, ``GN``, ``IN``
            or ``None``. Defaults to ``dict(type='GN', num_groups=1)``, which does not depend on the batch.
        act_cfg (dict, optional): Activation after each norm. Defaults to ``dict(type='GELU')``.
        init (str): Initialization. ``'zero_conv'``: the last convolution is zero, so the prompt is zero and the network
            computes the same outputs as without prompt blocks. ``'zero_scale'``: the prompt is zero because it is
            multiplied by a learned scale per channel that is initialized to zero. ``'random'``: the prompt is not zero.
            Defaults to ``'zero_conv'``.
        relative (bool): Whether the prompt of each image is multiplied by the root mean square of its feature map. Its
            norms remove the scale of the feature map, which differs between networks and stages; without this factor,
            the best learning rate depends on it. Defaults to False.

    Shape:
        - Input: (N, C, H, W)
        - Output: (N, C, H, W)

    Raises:
        ValueError: an argument is out of range or names an unknown layer.
    """

    relative: Tensor

    def __init__(
        self,
        channels: int,
        ratio: float = 0.32,
        kernel_size: int = 5,
        norm_cfg: LayerCfg | None = NORM,
        act_cfg: LayerCfg | None = ACT,
        init: str = 'zero_conv',
        relative: bool = False,
    ) -> None:
        super().__init__()
        if not ratio > 0:
            raise ValueError(
                f'ratio={ratio}: must be positive, such as 0.32; it is the hidden width of a prompt block as a share '
                'of its channels'
            )
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f'kernel_size={kernel_size!r}: must be a positive odd number such as 5, so that the prompt has the '
                'size of the feature map'
            )
        if init not in INITS:
            raise ValueError(f'init={init!r}: must be one of {list(INITS)}')
        hidden = hidden_width(channels, ratio)
        bias = norm_cfg is None  # as usual, no bias before a norm, which has its own shift
        self.init = init
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.norm1 = build_norm(norm_cfg, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden, bias=bias)
        self.norm2 = build_norm(norm_cfg, hidden)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.act = build_act(act_cfg)
        self.scale: nn.Parameter | None = None
        if init == 'zero_scale':
            self.scale = nn.Parameter(self.expand.weight.new_zeros(channels, 1, 1))
        self.is_relative = relative
        if relative:  # marked in the state dict, because the weights of a relative block make sense in no other
            self.register_buffer('relative', torch.ones(()))
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize every parameter again."""
        for conv in (self.reduce, self.depthwise, self.expand):
            nn.init.kaiming_normal_(conv.weight, mode='fan_in', nonlinearity='relu')
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
        for norm in (self.norm1, self.norm2):
            if isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm | nn.GroupNorm | nn.InstanceNorm2d):
                norm.reset_parameters()
        if self.init == 'zero_conv':
            nn.init.zeros_(self.expand.weight)
        if self.scale is not None:
            nn.init.zeros_(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        prompt = self.act(self.norm1(self.reduce(x)))
        prompt = self.act(self.norm2(self.depthwise(prompt)))
        prompt = self.expand(prompt)
        if self.scale is not None:
            prompt = prompt * self.scale
        return prompt * root_mean_square(x) if self.is_relative else prompt

    def blend(self, x: Tensor) -> Tensor:
        """Add the prompt to the feature map in one autograd node, which saves only what the gradients need.

        The result equals ``x + self(x)``, which is computed directly if the block has hooks or unsupported layers, or
        if the call is traced or compiled.

        Args:
            x (Tensor): (N, C, H, W), the stage's feature map.

        Returns:
            Tensor: (N, C, H, W).
        """
        layers = norm_act(self.norm1, self.act), norm_act(self.norm2, self.act)
        convs = (self.reduce, self.depthwise, self.expand)
        supported = None not in layers and all(type(conv) is nn.Conv2d for conv in convs)
        if not supported or not is_ordinary_call(x) or is_watched(self):
            return x + self(x)
        weight: Tensor = self.expand.weight
        bias: Any = self.expand.bias
        if self.scale is not None:
            weight, bias = weight * self.scale.unsqueeze(-1), bias * self.scale.flatten()
        blended: Tensor = MemoryEfficientBlend.apply(
            x,
            layers,
            dict(padding=self.depthwise.padding, groups=self.depthwise.groups),
            root_mean_square(x) if self.is_relative else None,
            *_tensors(self.reduce),
            *_tensors(self.norm1),
            *_tensors(self.depthwise),
            *_tensors(self.norm2),
            weight,
            bias,
        )
        return blended

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Reject weights of a relative block if this one is not, and the reverse; mmengine would only warn."""
        stored = f'{prefix}relative' in state_dict
        if f'{prefix}reduce.weight' in state_dict and stored != self.is_relative:
            raise RuntimeError(
                f'the stored prompt block {prefix.removesuffix(".")} is {"" if stored else "not "}relative, but the '
                f"model's is{' not' if stored else ''}: set relative={stored} of the prompt blocks"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def root_mean_square(x: Tensor) -> Tensor:
    """Return the root mean square of each image's feature map, (N, 1, 1, 1), as a constant without gradient."""
    constant = x.detach()
    mean: Tensor = constant.to(torch.promote_types(x.dtype, torch.float32)).square().mean((1, 2, 3), keepdim=True)
    return mean.sqrt().to(x.dtype)


def _tensors(layer: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    return getattr(layer, 'weight', None), getattr(layer, 'bias', None)
