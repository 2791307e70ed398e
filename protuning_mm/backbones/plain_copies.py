"""Plain copies of a tuned backbone: the network as it was before tuning, and one with the tunings merged in."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from protuning_mm.backbones.stage_hooks import remove_hooks
from protuning_mm.frozen import release
from protuning_mm.tunings import TuningError


def untuned(backbone: Any) -> nn.Module:
    """Copy the plain backbone as it was before tuning; see :meth:`~protuning_mm.TunedBackbone.untuned`.

    Args:
        backbone (TunedBackbone): It is not changed.

    Raises:
        TuningError: a tuning trains parameters of the plain backbone, and ``init_cfg`` gives no checkpoint.
    """
    plain = remove_additions(copy.deepcopy(backbone))
    trained = backbone.plain_keys - backbone.frozen_keys
    if trained:
        cfg = backbone.init_cfg
        if not (isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained'):
            names = ', '.join(tuning.name for tuning in backbone.tunings if tuning.trained)
            raise TuningError(
                f'{names} trains parameters of the plain backbone, and init_cfg gives no checkpoint '
                "to restore them from: set init_cfg=dict(type='Pretrained', checkpoint=…)"
            )
        state = backbone.read_base(cfg['checkpoint'], cfg.get('prefix'))
        target = plain.state_dict()
        for key in trained & set(state):
            target[key].copy_(state[key])
    return plain


def merged(backbone: Any) -> nn.Module:
    """Merge the tunings into a copy of the plain backbone; see :meth:`~protuning_mm.TunedBackbone.merge`.

    Args:
        backbone (TunedBackbone): It is not changed.

    Raises:
        TuningError: a tuning cannot be merged.
    """
    tuned = copy.deepcopy(backbone)
    for tuning in tuned.tunings:
        tuning.merge(tuned.plain)
    return remove_additions(tuned)


def remove_additions(backbone: Any) -> nn.Module:
    """Remove the tunings' modules and the efficient forwards from a backbone; return its plain backbone, trainable.

    Args:
        backbone (TunedBackbone): It cannot be used afterwards.
    """
    plain: nn.Module = backbone.plain
    release(plain)
    for name in backbone.added_children:
        del plain._modules[name]
    remove_hooks(plain, backbone.hooked)
    plain.requires_grad_(True)
    plain.train()
    return plain
