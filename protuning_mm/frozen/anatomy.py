"""What a residual block of the hosts is made of, read from the block itself.

A block is known by its exact type: a subclass may compute anything. It is read again at every call, because users
change modules in place: a layer replaced, a stride changed, a hook added, a parameter set free.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from protuning_mm.frozen.conv import geometry


@dataclass(frozen=True)
class Names:
    """Where a block's type keeps its layers, in the order in which they run."""

    convs: tuple[str, ...]
    norms: tuple[str, ...]
    acts: tuple[str, ...]


@dataclass(frozen=True)
class Anatomy:
    """A block's layers.

    Args:
        branch (list): (convolution, norm or None), with a ReLU after each but the last, whose ReLU follows the sum.
        pool (nn.AvgPool2d, optional): What stands before the shortcut's convolution.
        shortcut (tuple, optional): (convolution, norm or None) of the shortcut; None where it is the identity.
    """

    branch: list[tuple[nn.Conv2d, Any]]
    pool: nn.AvgPool2d | None
    shortcut: tuple[nn.Conv2d, Any] | None


def _names(number: int, norm: str, act: str) -> Names:
    def count(name: str) -> tuple[str, ...]:
        return tuple(name.format(i) for i in range(1, number + 1))

    return Names(count('conv{}'), count(norm), count(act) if '{}' in act else (act,))


_MM_BASIC, _MM_BOTTLENECK = _names(2, 'norm{}', 'relu'), _names(3, 'norm{}', 'relu')

BLOCKS: dict[str, Names] = {
    **{f'{host}.models.backbones.resnet.BasicBlock': _MM_BASIC for host in ('mmdet', 'mmseg', 'mmpretrain')},
    **{
        f'{host}.models.backbones.{file}.Bottleneck': _MM_BOTTLENECK
        for host in ('mmdet', 'mmseg', 'mmpretrain')
        for file in ('resnet', 'resnext')
    },
    'timm.models.resnet.BasicBlock': _names(2, 'bn{}', 'act{}'),
    'timm.models.resnet.Bottleneck': _names(3, 'bn{}', 'act{}'),
    'torchvision.models.resnet.BasicBlock': _names(2, 'bn{}', 'relu'),
    'torchvision.models.resnet.Bottleneck': _names(3, 'bn{}', 'relu'),
}
# networks that begin with a convolution and its norm, by their names; or with `stem`, a Sequential of such and ReLUs
STEMS: dict[str, tuple[str, str]] = {
    **{
        f'{host}.models.backbones.{network}': ('conv1', 'norm1')
        for host in ('mmdet', 'mmseg', 'mmpretrain')
        for network in ('resnet.ResNet', 'resnet.ResNetV1c', 'resnet.ResNetV1d', 'resnext.ResNeXt', 'regnet.RegNet')
    },
    'torchvision.models.resnet.ResNet': ('conv1', 'bn1'),
    'timm.models.resnet.ResNet': ('conv1', 'bn1'),
}
# what computes the same as BatchNorm2d in eval mode; the last is what a runner puts in the place of SyncBatchNorm
BATCH_NORMS = (
    'torch.nn.modules.batchnorm.BatchNorm2d',
    'torch.nn.modules.batchnorm.SyncBatchNorm',
    'mmengine.model.utils._BatchNormXd',
)
CONV_MODULE = 'mmcv.cnn.bricks.conv_module.ConvModule'
# what does nothing in eval mode
_IDLE = ('torch.nn.modules.linear.Identity', 'mmcv.cnn.bricks.drop.DropPath', 'timm.layers.drop.DropPath')


class ObstacleError(Exception):
    """Why a block takes the plain path."""


def type_name(module: object) -> str:
    """Full name of an object's exact type."""
    cls = type(module)
    return f'{cls.__module__}.{cls.__qualname__}'


def read_block(block: nn.Module, own: type | tuple[type, ...] = ()) -> Anatomy:
    """Read a residual block of a known type.

    Args:
        block (nn.Module): The block.
        own (type | tuple): A layer's replaced forward of this type is no obstacle.

    Raises:
        ObstacleError: says what is not known, or not frozen.
    """
    names = BLOCKS[type_name(block)]
    check_frozen(block, 'the block')  # its own hooks see its input and output, which are there
    for name, part in block.named_modules():
        if part is not block:
            check_untouched(part, name, own)
    convs = [getattr(block, name) for name in names.convs]
    norms = [getattr(block, name) for name in names.norms]
    branch = [conv_and_norm(conv, norm) for conv, norm in zip(convs, norms)]
    for name in names.acts:
        if type(getattr(block, name)) is not nn.ReLU:
            raise ObstacleError(f'{name} is a {type_name(getattr(block, name))}, not a ReLU')
    known = {id(part) for part in (*convs, *norms, block.downsample, *(getattr(block, name) for name in names.acts))}
    for name, child in block.named_children():
        idle = type_name(child) in _IDLE and not (child.training and type(child) is not nn.Identity)
        if id(child) not in known and not idle:
            raise ObstacleError(f'{name} is a {type_name(child)}, which is not known')
    return Anatomy(branch, *_read_shortcut(block.downsample))


def _read_shortcut(downsample: Any) -> tuple[nn.AvgPool2d | None, tuple[nn.Conv2d, Any] | None]:
    if downsample is None:
        return None, None
    if type(downsample) is not nn.Sequential:
        raise ObstacleError(f'downsample is a {type_name(downsample)}, not a Sequential')
    parts = [part for part in downsample if type(part) is not nn.Identity]
    pool: Any = parts.pop(0) if parts and type(parts[0]) is nn.AvgPool2d else None
    if len(parts) != 2:
        listed = ', '.join(type(part).__name__ for part in downsample)
        raise ObstacleError(
            f'downsample is ({listed}); a convolution and its norm are known, and a pooling before them'
        )
    return pool, conv_and_norm(*parts)


def conv_and_norm(conv: nn.Module, norm: nn.Module) -> tuple[nn.Conv2d, Any]:
    """Check that a convolution and the norm after it can be folded; the norm is None where it is an identity.

    Raises:
        ObstacleError: says what is in the way.
    """
    if type(conv) is not nn.Conv2d:
        raise ObstacleError(f'{type_name(conv)} is not an exact Conv2d')
    if geometry(conv) is None:
        raise ObstacleError(f'a convolution pads with padding={conv.padding!r}, padding_mode={conv.padding_mode!r}')
    if type(norm) is nn.Identity:
        return conv, None
    if type_name(norm) not in BATCH_NORMS:
        raise ObstacleError(f'{type_name(norm)} is not an exact batch norm')
    if norm.training:
        raise ObstacleError('a batch norm is in training mode')
    if norm.running_mean is None or norm.running_var is None:
        raise ObstacleError('a batch norm has no running statistics')
    return conv, norm


def check_untouched(part: nn.Module, name: str = 'it', own: type | tuple[type, ...] = ()) -> None:
    """Check that nobody looks into a layer, and that nothing of it is trained.

    Args:
        part (nn.Module): The layer; its children are not looked at.
        name (str): What to call it.
        own (type | tuple): A replaced forward of this type is no obstacle.

    Raises:
        ObstacleError: says what was found.
    """
    check_frozen(part, name)
    if 'forward' in part.__dict__ and not isinstance(part.__dict__['forward'], own):
        raise ObstacleError(f'the forward of {name} was replaced')
    if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
        raise ObstacleError(f'{name} has hooks')


def check_frozen(part: nn.Module, name: str) -> None:
    """Raise ObstacleError where a layer's own parameters are trained."""
    if any(param is not None and param.requires_grad for param in part._parameters.values()):
        raise ObstacleError(f'parameters of {name} are trained')
