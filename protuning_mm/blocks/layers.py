"""Norm and activation layers by the names that OpenMMLab's configs use, without mmcv."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

LayerCfg = Mapping[str, Any]

# Every entry takes the number of channels first; the config's other keys are passed on.
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

_NORM_CLASSES = (
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a batch, instance, group or layer norm, those of the host libraries included."""
    return isinstance(module, _NORM_CLASSES)


def build_norm(cfg: LayerCfg | None, channels: int) -> nn.Module:
    """Build a norm over ``channels`` maps; ``None`` builds the identity.

    Args:
        cfg (dict, optional): ``type`` (one of :data:`NORMS`) and the layer's own arguments. ``requires_grad`` is
            accepted as in mmcv.
        channels (int): Number of channels.

    Raises:
        ValueError: ``type`` is unknown, or the layer refuses its arguments.
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
        cfg (dict, optional): ``type`` (one of :data:`ACTS`) and the layer's own arguments.

    Raises:
        ValueError: ``type`` is unknown, or the layer refuses its arguments.
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
