"""The layers of a host's residual block, read from the block itself.

Only exact types are supported, because a subclass may compute anything. A block is read anew at every call, because
users change modules in place: they replace a layer, change a stride, add a hook or unfreeze a parameter.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from protuning_mm.frozen.conv import geometry


class Names(NamedTuple):
    """Attribute names of a block type's layers, in the order in which they run."""

    convs: tuple[str, ...]
    norms: tuple[str, ...]
    acts: tuple[str, ...]


@dataclass(frozen=True)
class BlockLayers:
    """A block's layers.

    Args:
        branch (list): Pairs of (convolution, norm or None). A ReLU follows each pair; that of the last pair follows the
            residual sum.
        pool (nn.AvgPool2d, optional): The pooling before the shortcut's convolution.
        shortcut (tuple, optional): (convolution, norm or None) of the shortcut; None for an identity shortcut.
    """

    branch: list[tuple[nn.Conv2d, Any]]
    pool: nn.AvgPool2d | None
    shortcut: tuple[nn.Conv2d, Any] | None


_MM_FOLDERS = ('mmdet.models.backbones', 'mmseg.models.backbones', 'mmpretrain.models.backbones')


def _names(number: int, norm: str, act: str) -> Names:
    def count(name: str) -> tuple[str, ...]:
        return tuple(name.format(i) for i in range(1, number + 1))

    return Names(count('conv{}'), count(norm), count(act) if '{}' in act else (act,))


# file -> names of the norms and activations in its blocks
_FILES = {
    **{f'{folder}.{file}': ('norm{}', 'relu') for folder in _MM_FOLDERS for file in ('resnet', 'resnext')},
    'timm.models.resnet': ('bn{}', 'act{}'),
    'torchvision.models.resnet': ('bn{}', 'relu'),
}
BLOCKS = {
    f'{file}.{block}': _names(number, norm, act)
    for file, (norm, act) in _FILES.items()
    for block, number in (('BasicBlock', 2), ('Bottleneck', 3))
}
# Names of the convolution and the norm with which a network begins. A network with a Sequential `stem` uses that.
STEMS: dict[str, tuple[str, str]] = {
    **{
        f'{folder}.{network}': ('conv1', 'norm1')
        for folder in _MM_FOLDERS
        for network in ('resnet.ResNet', 'resnet.ResNetV1c', 'resnet.ResNetV1d', 'resnext.ResNeXt', 'regnet.RegNet')
    },
    'torchvision.models.resnet.ResNet': ('conv1', 'bn1'),
    'timm.models.resnet.ResNet': ('conv1', 'bn1'),
}
# Classes equivalent to BatchNorm2d in eval mode. A runner may replace SyncBatchNorm by the last one.
BATCH_NORMS = (
    'torch.nn.modules.batchnorm.BatchNorm2d',
    'torch.nn.modules.batchnorm.SyncBatchNorm',
    'mmengine.model.utils._BatchNormXd',
)
# a batch norm, a dropout that is usually none, and an activation
NORM_ACTS = ('timm.layers.norm_act.BatchNormAct2d',)
# convolutions that pad at each call, so that the output's size is the input's divided by the stride, rounded up
SAME_CONVS = (
    'timm.layers.conv2d_same.Conv2dSame',
    'mmcv.cnn.bricks.conv2d_adaptive_padding.Conv2dAdaptivePadding',
)
CONV_MODULE = 'mmcv.cnn.bricks.conv_module.ConvModule'
# modules that are the identity in eval mode
_IDLE = ('torch.nn.modules.linear.Identity', 'mmcv.cnn.bricks.drop.DropPath', 'timm.layers.drop.DropPath')


# the methods that run a layer, and for each checked class their code objects
_METHODS = ('__call__', '_call_impl', 'forward', '_conv_forward')
_seen: dict[type, list[Any]] = {}
# instance attributes of every module
_KEYS_OF_ALL = frozenset(vars(nn.Module()))
# Instance attributes that an EfficientForward sets besides `forward`. They make a shallow copy of the module an
# ordinary module of its class.
MARKS = ('efficient_forward', '__getstate__', '_replicate_for_data_parallel')


class UnsupportedError(Exception):
    """A module cannot run efficiently; the message says why."""


def type_name(module: object) -> str:
    """Return the full name of an object's exact type."""
    cls = type(module)
    return f'{cls.__module__}.{cls.__qualname__}'


def read_block(block: nn.Module, own: type | tuple[type, ...] = ()) -> BlockLayers:
    """Read a residual block of a supported type.

    Args:
        block (nn.Module): The block.
        own (type | tuple): Types of replaced forwards to accept in the block and its layers.

    Raises:
        UnsupportedError: the block or one of its layers is unsupported or not frozen.
    """
    names = BLOCKS.get(type_name(block))
    if names is None:
        raise UnsupportedError(f'{type_name(block)} is not a supported block')
    check_own(block, 'the block', own)  # hooks on the block itself are fine: its input and output still exist
    for name, part in block.named_modules():
        if part is not block:
            check_untouched(part, name, own)
    convs, norms, acts = ([getattr(block, name) for name in of_kind] for of_kind in names)
    branch = [conv_and_norm(conv, norm) for conv, norm in zip(convs, norms)]
    for name, act in zip(names.acts, acts):
        if type(act) is not nn.ReLU:
            raise UnsupportedError(f'{name} is a {type_name(act)}, not a ReLU')
    known = {id(part) for part in (*convs, *norms, *acts, block.downsample)}
    for name, child in block.named_children():
        idle = type_name(child) in _IDLE and not (child.training and type(child) is not nn.Identity)
        if id(child) not in known and not idle:
            raise UnsupportedError(f'{name} is a {type_name(child)}, which is not supported')
    if getattr(block, 'with_plugins', False):
        raise UnsupportedError('the block has plugins')
    return BlockLayers(branch, *_read_shortcut(block.downsample))


def _read_shortcut(downsample: Any) -> tuple[nn.AvgPool2d | None, tuple[nn.Conv2d, Any] | None]:
    if downsample is None:
        return None, None
    if type(downsample) is not nn.Sequential:
        raise UnsupportedError(f'downsample is a {type_name(downsample)}, not a Sequential')
    parts = [part for part in downsample if type(part) is not nn.Identity]
    pool: Any = parts.pop(0) if parts and type(parts[0]) is nn.AvgPool2d else None
    if len(parts) != 2:
        listed = ', '.join(type(part).__name__ for part in downsample)
        raise UnsupportedError(
            f'downsample is ({listed}); only an optional average pooling, a convolution and a norm are supported'
        )
    return pool, conv_and_norm(*parts)


def conv_and_norm(conv: Any, norm: Any) -> tuple[nn.Conv2d, Any]:
    """Check that a norm can be folded into the convolution before it.

    Returns:
        tuple: The convolution and the norm; the norm is None if it is an identity.

    Raises:
        UnsupportedError: one of the two is unsupported.
    """
    check_conv(conv)
    if type(norm) is nn.Identity:
        return conv, None
    check_norm(norm)
    return conv, norm


def check_conv(conv: Any, others: Sequence[str] = ()) -> None:
    """Raise UnsupportedError if a layer is not a Conv2d, or of one of other types, with a supported geometry."""
    if type(conv) is not nn.Conv2d and type_name(conv) not in others:
        raise UnsupportedError(f'{type_name(conv)} is not an exact Conv2d')
    if geometry(conv) is None:
        raise UnsupportedError(f'a convolution has padding={conv.padding!r}, padding_mode={conv.padding_mode!r}')


def check_norm(norm: Any, types: Sequence[str] = BATCH_NORMS) -> None:
    """Raise UnsupportedError if a layer is not a batch norm in eval mode with running statistics."""
    if type_name(norm) not in types:
        raise UnsupportedError(f'{type_name(norm)} is not an exact batch norm')
    if norm.training:
        raise UnsupportedError('a batch norm is in training mode')
    if norm.running_mean is None or norm.running_var is None:
        raise UnsupportedError('a batch norm has no running statistics')


def check_untouched(part: nn.Module, name: str = 'it', own: type | tuple[type, ...] = ()) -> None:
    """Check that a layer runs its class's original code, has no hooks and is frozen.

    Args:
        part (nn.Module): The layer; its children are not checked.
        name (str): The layer's name in error messages.
        own (type | tuple): Types of replaced forwards to accept.

    Raises:
        UnsupportedError: one of the three does not hold.
    """
    check_own(part, name, own)
    check_unhooked(part, name)


def check_unhooked(part: nn.Module, name: str) -> None:
    """Raise UnsupportedError if a layer has hooks."""
    if part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks:
        raise UnsupportedError(f'{name} has hooks')


def check_own(part: nn.Module, name: str, own: type | tuple[type, ...] = ()) -> None:
    """Check like :func:`check_untouched`, but accept hooks."""
    attributes = part.__dict__
    attached = (attributes[key] for key in attributes.keys() - _KEYS_OF_ALL)
    for value in (*part._parameters.values(), *part._buffers.values(), *attached):
        if isinstance(value, Tensor) and value.requires_grad:
            raise UnsupportedError(f'parameters of {name} are trained')
    check_runs_own(part, name, own)


def check_runs_own(part: nn.Module, name: str, own: type | tuple[type, ...] = ()) -> None:
    """Raise UnsupportedError if a method of the layer's instance or class was replaced."""
    for key in part.__dict__.keys() - _KEYS_OF_ALL:
        value = part.__dict__[key]
        if callable(value) and not (isinstance(value, own) if key == 'forward' else key in MARKS):
            raise UnsupportedError(f'the {key} of {name} was replaced')
    check_class(type(part), name)


def check_class(cls: type, name: str) -> None:
    """Raise UnsupportedError if a method that runs the class does not come from the file that defines the class."""
    methods = [getattr(cls, method, None) for method in _METHODS]
    codes = [getattr(method, '__code__', None) for method in methods]
    if _seen.get(cls) == codes:
        return
    for method, code in zip(_METHODS, codes):
        owner = next((base for base in cls.__mro__ if method in vars(base)), None)
        if owner is None:
            continue
        home = getattr(sys.modules.get(owner.__module__), '__file__', None)
        names = (method, '_wrapped_call_impl') if method == '__call__' else (method,)
        if code is None or code.co_filename != home or code.co_name not in names:
            raise UnsupportedError(f'{method} of the class of {name} was replaced')
    _seen[cls] = codes
