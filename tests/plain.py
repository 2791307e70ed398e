"""What the tests compare with: the hosts' own classes and plain torch, none of it the package's code."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
SMALL = dict(base_channels=4, stem_channels=4)


def plain_resnet(host: str = 'mmdet', **resnet: Any) -> nn.Module:
    """The host's own ResNet (ResNeXt where ``groups`` is given), 4 channels wide, every stage an output."""
    if host == 'mmdet':
        from mmdet.models.backbones import ResNet, ResNeXt
    elif host == 'mmseg':
        from mmseg.models.backbones import ResNet, ResNeXt
    else:
        from mmpretrain.models.backbones import ResNet, ResNeXt
    kind = ResNeXt if 'groups' in resnet else ResNet
    return kind(**with_defaults(resnet))


def with_defaults(resnet: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``resnet`` over the defaults of :func:`plain_resnet`."""
    return {**SMALL, 'out_indices': (0, 1, 2, 3), **resnet}


def fill(module: nn.Module, seed: int = 1) -> nn.Module:
    """Give every parameter and statistic a value that no initialisation gives."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith('running_var'):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif name.endswith('num_batches_tracked'):
            tensor.fill_(7)
        elif name.endswith('relative'):  # what the block is, not how it was trained
            continue
        elif tensor.ndim == 1:
            base = 1 if name.endswith('weight') else 0
            tensor.copy_(base + 0.2 * torch.randn(tensor.shape, generator=generator))
        else:
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
    return module


def prompt_by_hand(state: Mapping[str, Tensor], x: Tensor, groups: int = 1) -> Tensor:
    """The default prompt block as formulas: 1x1, GN, GELU, depth-wise, GN, GELU, 1x1 with bias; times the RMS of x."""
    factor = (x * x).flatten(1).mean(1).sqrt()[:, None, None, None] if 'relative' in state else 1.0
    x = F.conv2d(x, state['reduce.weight'])
    x = _gelu(_group_norm(x, state['norm1.weight'], state['norm1.bias'], groups))
    depthwise = state['depthwise.weight']
    x = F.conv2d(x, depthwise, padding=depthwise.shape[-1] // 2, groups=len(depthwise))
    x = _gelu(_group_norm(x, state['norm2.weight'], state['norm2.bias'], groups))
    return F.conv2d(x, state['expand.weight'], state['expand.bias']) * factor


def _gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / 2**0.5)) / 2


def _group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    grouped = x.reshape(len(x), groups, -1)
    mean = grouped.mean(-1, keepdim=True)
    var = grouped.var(-1, keepdim=True, unbiased=False)
    normed = ((grouped - mean) / (var + 1e-5).sqrt()).reshape(x.shape)
    return normed * weight[:, None, None] + bias[:, None, None]


def disturb(prompts: nn.Module, seed: int = 2) -> None:
    """Give prompts values that no initialisation gives, so that they no longer are the identity."""
    fill(prompts, seed)


def image(height: int = 64, width: int = 64, batch: int = 2, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every tensor that a module's state dict holds."""
    return {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}


def assert_identical(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Bit for bit, for every key of ``expected``."""
    different = [key for key, t in expected.items() if not torch.equal(state[key], t)]
    assert not different, f'{len(different)} of {len(expected)} changed: {different[:5]}'


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).detach().abs().max() / expected.detach().abs().max().clamp(min=1e-30))
