"""A frozen stem whose batch norms are folded into the convolutions before them.

A convolution called on its own must still return its unfolded result. Folding is therefore done in the forward of the
module that calls the two layers in order: the network, or a Sequential or ConvModule that contains them.
"""

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
from protuning_mm.frozen.conditions import compute_dtype, is_ordinary_call
from protuning_mm.frozen.efficient_forward import EfficientForward
from protuning_mm.frozen.efficient_layers import EfficientConv, EfficientNorm
from protuning_mm.frozen.folding import fold

_PASS = nn.Identity()


def wrap_stem(network: Any) -> None:
    """Replace the forward of the modules that run a network's stem, if the network's type is supported."""
    if type_name(network) not in STEMS:
        return
    stem = getattr(network, 'stem', None)
    # V1c and V1d have a Sequential; in mmpretrain it consists of mmcv's ConvModules
    for part in [stem, *stem] if type(stem) is nn.Sequential else [network]:
        if _pairs(part) and 'forward' not in part.__dict__:
            EfficientStem(part)


def _pairs(holder: Any) -> list[tuple[str, str]]:
    """Return the names of each convolution and of the batch norm that is called right after it."""
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
    """Forward of the module that runs a stem, with each batch norm folded into the convolution before it.

    The class's forward runs on a shallow copy of the module that exists only during the call. Threads therefore do not
    affect each other, and layers called on their own still return their unfolded results.
    """

    def check(self) -> dict[str, str]:
        """Return convolution name -> name of the norm that can be folded into it."""
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
        """Return the norms that are folded into convolutions."""
        return [self.module._modules[norm] for norm in self.check().values()]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        folded = self.check() if len(args) == 1 and not kwargs and _runs_folded(args[0]) else {}
        if not folded:
            return self.plain(*args, **kwargs)
        module = self.module
        children = dict(module._modules)
        for conv, norm in folded.items():
            children[conv] = partial(_run, children[conv], children[norm])
            children[norm] = _PASS
        stand_in = object.__new__(type(module))
        stand_in.__dict__.update(module.__dict__, _modules=children)
        return type(module).forward(stand_in, *args)


def _runs_folded(x: Any) -> bool:
    return is_ordinary_call(x) and not (x.requires_grad and torch.is_grad_enabled())


def _run(conv: nn.Conv2d, norm: Any, x: Tensor) -> Tensor:
    """Run a convolution and its norm, folded unless an earlier layer requires a gradient."""
    dtype = compute_dtype(x, conv, norm) if _runs_folded(x) else None
    if dtype is None:
        y: Tensor = norm(conv(x))
        return y
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        return fold(conv, norm, dtype)(x.to(dtype))
