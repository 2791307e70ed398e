"""A frozen stem: the convolution does the work of the norm after it, and the norm lets the result pass."""

import weakref
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.frozen.anatomy import (
    BATCH_NORMS,
    CONV_MODULE,
    STEMS,
    ObstacleError,
    check_untouched,
    conv_and_norm,
    type_name,
)
from protuning_mm.frozen.conditions import compute_dtype, runs_plainly
from protuning_mm.frozen.efficient import EfficientForward
from protuning_mm.frozen.fold import FoldedConv


def take_stem(network: nn.Module) -> None:
    """Let each convolution of a network's stem do the work of the norm after it, where the network's type is known."""
    for conv, norm in pairwise(_stem_layers(network)):
        if type(conv) is nn.Conv2d and type_name(norm) in BATCH_NORMS:
            EfficientStemNorm(norm, EfficientStemConv(conv, network))


def _stem_layers(network: Any) -> list[nn.Module]:
    """A stem's layers in the order in which they run."""
    names = STEMS.get(type_name(network), ())
    if names and type(getattr(network, 'stem', None)) is nn.Sequential:  # V1c, V1d
        return [layer for part in network.stem for layer in _conv_module_layers(part)]
    return [getattr(network, name) for name in names if hasattr(network, name)]


def _conv_module_layers(part: Any) -> list[nn.Module]:
    """The layers of mmcv's ConvModule, which mmpretrain's stems are made of; anything else is one layer."""
    if type_name(part) == CONV_MODULE and part.order[:2] == ('conv', 'norm') and part.with_norm:
        return [part.conv, part.norm]
    return [part]


class EfficientStemConv(EfficientForward):
    """Forward of a stem's convolution: with the norm folded in, where no gradient of the image is asked for.

    Args:
        conv (nn.Conv2d): The convolution.
        network (nn.Module): Whose stem it begins.
    """

    def __init__(self, conv: nn.Module, network: nn.Module) -> None:
        super().__init__(conv)
        self._set_up(network)

    def _set_up(self, network: nn.Module | None) -> None:
        self._network = None if network is None else weakref.ref(network)
        self._fold = FoldedConv()
        self._normed: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), 'network': None if self._network is None else self._network()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._set_up(state['network'])

    def folds(self) -> Iterable[FoldedConv]:
        return (self._fold,)

    def covers(self) -> Iterable[nn.Module]:
        return self.module, self.check()

    def check(self) -> Any:
        """The norm after it, as the network stands now."""
        conv, network = self.module, None if self._network is None else self._network()
        norm = next((b for a, b in pairwise(_stem_layers(network)) if a is conv), None)
        forward = None if norm is None else norm.__dict__.get('forward')
        if norm is None or not isinstance(forward, EfficientStemNorm) or forward.conv is not self:
            raise ObstacleError('the norm after it was replaced')
        check_untouched(conv, own=EfficientStemConv)
        check_untouched(norm, own=EfficientStemNorm)
        return conv_and_norm(conv, norm)[1]

    def __call__(self, x: Tensor) -> Tensor:
        y = None
        if runs_plainly(x) and not (x.requires_grad and torch.is_grad_enabled()):
            y = self._run(x)
        self._normed = None if y is None else weakref.ref(y)
        return self.plain(x) if y is None else y

    def _run(self, x: Tensor) -> Tensor | None:
        try:
            norm = self.check()
        except ObstacleError:
            return None
        dtype = compute_dtype(x, self.module, norm)
        if dtype is None:
            return None
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return self._fold(self.module, norm, dtype)(x.to(dtype))

    def was_normed(self, y: Tensor) -> bool:
        """Whether ``y`` is the very result of this convolution, and normed already."""
        normed, self._normed = self._normed, None
        return normed is not None and normed() is y


class EfficientStemNorm(EfficientForward):
    """Forward of the norm after a stem's convolution: what was normed passes, anything else is normed.

    Args:
        norm (nn.Module): The norm.
        conv (EfficientStemConv): The convolution's forward.
    """

    def __init__(self, norm: nn.Module, conv: EfficientStemConv) -> None:
        super().__init__(norm)
        self.conv = conv

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), 'conv': self.conv}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.conv = state['conv']

    def check(self) -> Any:
        return self.conv.check()

    def __call__(self, x: Tensor) -> Tensor:
        return x if self.conv.was_normed(x) else self.plain(x)
