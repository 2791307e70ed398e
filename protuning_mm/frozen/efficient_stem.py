"""A frozen stem: each convolution does the work of the norm after it.

Neither layer can do that alone: what a convolution returns when it is called by itself has to be its own result. So
what runs them in order, the network or the Sequential or ConvModule that holds them, is run with the two exchanged.
"""

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.frozen.block_structure import (
    BATCH_NORMS,
    CONV_MODULE,
    STEMS,
    UnsupportedError,
    check_class,
    check_untouched,
    conv_and_norm,
    type_name,
)
from protuning_mm.frozen.conditions import compute_dtype, runs_plainly
from protuning_mm.frozen.efficient_forward import EfficientForward
from protuning_mm.frozen.efficient_layers import EfficientConv, EfficientNorm
from protuning_mm.frozen.folding import FoldedConv

_PASS = nn.Identity()


def wrap_stem(network: Any) -> None:
    """Let what runs a stem fold its norms into its convolutions, where the network's type is known."""
    if type_name(network) not in STEMS:
        return
    stem = getattr(network, 'stem', None)
    if type(stem) is not nn.Sequential:
        parts = [network]
    else:  # V1c, V1d; mmpretrain's are made of mmcv's ConvModule
        parts = [stem, *(part for part in stem if type_name(part) == CONV_MODULE)]
    for part in parts:
        if _pairs(part) and 'forward' not in part.__dict__:
            EfficientStem(part)


def _pairs(holder: Any) -> list[tuple[str, str]]:
    """The names of each convolution and of the batch norm that is called right after it."""
    children = holder._modules
    if type(holder) is nn.Sequential:
        names = list(children)
    elif type_name(holder) == CONV_MODULE:
        names = ['conv', holder.norm_name] if holder.order[:2] == ('conv', 'norm') and holder.with_norm else []
    else:
        conv, norm = STEMS.get(type_name(holder), ('', ''))
        names = [conv, getattr(holder, f'{norm}_name', norm)]  # mmdet's norm1 is a property
    return [
        (conv, norm)
        for conv, norm in pairwise(names)
        if type(children.get(conv)) is nn.Conv2d and type_name(children.get(norm)) in BATCH_NORMS
    ]


class EfficientStem(EfficientForward):
    """Forward of what runs a stem: the class's own, with each norm folded into the convolution before it.

    The class's forward runs on a shallow copy that lives for this call alone, so that calls in several threads know
    nothing of each other, and layers that are called by themselves are what they are.
    """

    def _attach(self, module: nn.Module) -> None:
        super()._attach(module)
        self._folds: dict[str, FoldedConv] = defaultdict(FoldedConv)

    def folds(self) -> Iterable[FoldedConv]:
        return list(self._folds.values())  # another thread may add one meanwhile

    def check(self) -> dict[str, str]:
        """The names of convolutions, and of the norms that are folded into them."""
        found: dict[str, str] = {}
        try:
            check_class(type(self.module), 'it')
        except UnsupportedError:
            return found
        for names in _pairs(self.module):
            conv, norm = (self.module._modules[name] for name in names)
            try:
                check_untouched(conv, own=EfficientConv)
                check_untouched(norm, own=EfficientNorm)
                conv_and_norm(conv, norm)
            except UnsupportedError:
                continue
            found[names[0]] = names[1]
        return found

    def norms(self) -> list[nn.Module]:
        """The norms whose work is done by convolutions."""
        return [self.module._modules[norm] for norm in self.check().values()]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        folded = self.check() if len(args) == 1 and not kwargs and _runs_folded(args[0]) else {}
        if not folded:
            return self.plain(*args, **kwargs)
        module = self.module
        children = dict(module._modules)
        for conv, norm in folded.items():
            children[conv] = partial(_run, self._folds[conv], children[conv], children[norm])
            children[norm] = _PASS
        stand_in = object.__new__(type(module))
        stand_in.__dict__.update(module.__dict__, _modules=children)
        return type(module).forward(stand_in, *args)


def _runs_folded(x: Any) -> bool:
    return runs_plainly(x) and not (x.requires_grad and torch.is_grad_enabled())


def _run(fold: FoldedConv, conv: nn.Conv2d, norm: Any, x: Tensor) -> Tensor:
    """The convolution and its norm; one by one where something before them takes a gradient."""
    dtype = compute_dtype(x, conv, norm) if _runs_folded(x) else None
    if dtype is None:
        y: Tensor = norm(conv(x))
        return y
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        return fold(conv, norm, dtype)(x.to(dtype))
