"""Comparison and copies of plain backbones, for tasks whose frozen networks run jointly."""

import copy
from itertools import chain
from typing import Any

from torch import nn

from protuning_mm.backbones import TunedBackbone

# settings of vision transformers and ConvNeXts that change the computation but appear in no module's representation
_SETTINGS = frozenset({
    'cls_token', 'final_norm', 'gap_before_final_norm', 'global_pool', 'interpolate_mode', 'interpolate_pos_encoding',
    'num_extra_tokens', 'out_type', 'output_cls_token', 'with_cls_token',
})  # fmt: skip


def architecture_key(backbone: TunedBackbone) -> tuple[Any, ...]:
    """Return a key that two backbones share if they compute the same with the same frozen tensors."""
    plain: Any = backbone.plain
    added = backbone.added_children
    parts = tuple(
        (path, type(module).__name__.replace('SyncBatchNorm', 'BatchNorm2d'), module.extra_repr())
        for path, module in plain.named_modules()
        if path.split('.')[0] not in added and not isinstance(module, nn.Identity)
    )
    outs = (
        None
        if outputs_are_stages(backbone)
        else (backbone.structure.outs, tuple(getattr(plain, 'out_indices', None) or ()))
    )
    settings = tuple(
        sorted((k, v) for k, v in vars(plain).items() if k in _SETTINGS and isinstance(v, str | int | bool))
    )
    layout = type(backbone.structure.layout).__name__
    return backbone.efficient_frozen, layout, outs, settings, tuple(sorted(backbone.plain_keys)), parts


def outputs_are_stages(backbone: TunedBackbone) -> bool:
    """Return whether each output is a stage's feature itself, as in ResNets.

    Then ``out_indices`` changes nothing but which features are returned.
    """
    plain: Any = backbone.plain
    return hasattr(plain, 'res_layers') and tuple(plain.out_indices) == backbone.structure.outs


def copy_plain(backbone: TunedBackbone) -> Any:
    """Return a copy of the plain backbone's modules, without hooks and modules of tunings, in eval mode.

    The copy has the same tensor objects.
    """
    tensors = {id(t): t for t in chain(backbone.parameters(), backbone.buffers())}
    plain: Any = copy.deepcopy(backbone.plain, tensors)
    for name in backbone.added_children:
        del plain._modules[name]
    for path, table, key in backbone.hooked:
        del getattr(plain.get_submodule(path), table)[key]
    plain.eval()  # some hosts' eval() returns None
    return plain
