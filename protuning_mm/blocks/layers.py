"""Norm and activation layers, built from OpenMMLab's config names without mmcv."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

LayerCfg = Mapping[str, Any]

# Every entry takes the number of channels first, then the other keys of the config.
NORMS: dict[str, Callable[..., nn.Module]] = {
    'BN': nn.BatchNorm2d,
    'SyncBN': nn.SyncBatchNorm,
    'IN': lambda channels, affine=True, **kwargs: nn.InstanceNorm2d(channels, affine=affine, **kwargs),
    'GN': lambda channels, num_groups=1, **kwargs: nn.GroupNorm(num_groups, channels, **kwargs),
}
ACTS: dict[str, Callable[..., nn.Module]] = {
    'ReLU': nn.ReLU,
    'GELU': nn.GELU,
    'SiLU': nn.SiLU,
    'HSwish': nn.Hardswish,
    'LeakyReLU': nn.LeakyReLU,
}


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a batch, instance, group or layer norm, including those of the host libraries."""
    return isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)


def build_norm(cfg: LayerCfg | None, channels: int) -> nn.Module:
    """Build a norm layer; ``None`` builds the identity.

    Args:
        cfg (dict, optional): ``type`` (one of :data:`NORMS`) and the layer's arguments. ``requires_grad`` is accepted
            as in mmcv.
        channels (int): Number of channels.

    Raises:
        ValueError: ``type`` is unknown, or the layer rejects its arguments.
    """
    if cfg is None:
        return nn.Identity()
    kwargs = dict(cfg)
    requires_grad = kwargs.pop('requires_grad', True)
    norm = _build('norm_cfg', NORMS, kwargs, channels)
    for param in norm.parameters():
        param.requires_grad_(requires_grad)
    return norm


def build_act(cfg: LayerCfg | None) -> nn.Module:
    """Build an activation; ``None`` builds the identity.

    Args:
        cfg (dict, optional): ``type`` (one of :data:`ACTS`) and the layer's arguments.

    Raises:
        ValueError: ``type`` is unknown, or the layer rejects its arguments.
    """
    return nn.Identity() if cfg is None else _build('act_cfg', ACTS, dict(cfg))


def _build(key: str, table: dict[str, Callable[..., nn.Module]], cfg: dict[str, Any], *args: int) -> nn.Module:
    written = dict(cfg)
    kind = cfg.pop('type', None)
    if kind not in table:
        raise ValueError(f'{key}={written}: type must be one of {sorted(table)}, but got {kind!r}')
    try:
        return table[kind](*args, **cfg)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{key}={written} does not fit a layer of {list(args)} channels: {error}') from error
