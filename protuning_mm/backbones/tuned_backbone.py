"""A host's backbone that stays exactly as it was pre-trained, while something is trained around it."""

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from protuning_mm.backbones.stages import Stages
from protuning_mm.checkpoints.pretrained import (
    check_frozen_tensors,
    read_backbone_state,
)

# What makes a module's tree. Sharing these tables gives every tensor the plain backbone's own name.
_TREE = ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set')
_LOADING = ('_load_state_dict_pre_hooks', '_load_state_dict_post_hooks')


class FrozenBackbone(BaseModule):
    """Takes the place of a plain backbone: same children, same names, same weights, all of it frozen.

    The plain backbone's tables of children, parameters and buffers become this module's own. So a state dict of the
    tuned network is the plain network's plus what was added: checkpoints of the hosts load as they are, and what is
    saved here loads there.

    Frozen means: no parameter takes a gradient, and every frozen module stays in eval mode (batch norms use and keep
    their pre-trained statistics), whatever ``train()`` is told. Freezing is owned here and nowhere else.

    Args:
        plain (nn.Module): The host's backbone, built but not initialised.
        stages (Stages): How ``plain`` is read.
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint=…)`` names the file of the frozen weights
            (``torchvision://resnet50``, ``open-mmlab://resnet50_v1c``, a path, a whole detector or segmentor, …). It
            is loaded strictly. Anything else initialises the backbone at random, as the host would.
        allow_random_backbone (bool): Let training start on frozen weights that came from no file.
            Defaults to False.

    Raises:
        protuning_mm.checkpoints.FrozenWeightsError: a checkpoint does not fill every frozen tensor.
    """

    def __init__(
        self,
        plain: nn.Module,
        stages: Stages,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        allow_random_backbone: bool = False,
    ) -> None:
        super().__init__(init_cfg)
        # Neither is a child: `plain` is this module's tree under its host's class.
        object.__setattr__(self, 'plain', plain)
        object.__setattr__(self, '_stages', stages)
        for table in (*_TREE, *_LOADING):
            object.__setattr__(self, table, getattr(plain, table))
        self.allow_random_backbone = allow_random_backbone
        self.frozen_source: str | None = None
        self.frozen_children = frozenset(plain._modules)
        self.frozen_keys = frozenset(plain.state_dict())
        for param in plain.parameters():
            param.requires_grad_(False)
        self._keep_frozen_in_eval()  # a module is born in training mode

    @property
    def stages(self) -> nn.ModuleList:
        """The frozen stages, in order; the stem stands before the first."""
        return nn.ModuleList(self._stage_modules())

    def _stage_modules(self) -> list[nn.Module]:
        return [self._modules[name] for name in self._stages.names]

    def frozen_tensors(self) -> dict[str, Tensor]:
        """The frozen parameters and buffers by the plain backbone's own keys."""
        return {k: v for k, v in self.state_dict().items() if k in self.frozen_keys}

    def untuned(self) -> nn.Module:
        """Hand back a copy of the plain host backbone, bit for bit and free to be trained."""
        plain = copy.deepcopy(self).plain
        for name in set(plain._modules) - self.frozen_children:
            del plain._modules[name]
        plain.requires_grad_(True)
        plain.train()
        return plain

    def train(self, mode: bool = True) -> 'FrozenBackbone':
        super().train(mode)
        self._keep_frozen_in_eval()
        return self

    def _keep_frozen_in_eval(self) -> None:
        for name in self.frozen_children:
            self._modules[name].eval()

    def init_weights(self) -> None:
        """Fill the frozen tensors, strictly where ``init_cfg`` names a file, then what was added."""
        cfg = self.init_cfg
        if isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained':
            self._load_pretrained(cfg['checkpoint'], cfg.get('prefix'))
        else:
            self._init_randomly()
        self.init_added()
        self._is_init = True

    def init_added(self) -> None:
        """Give what was added its initial values; runs after the frozen tensors were filled."""

    def _load_pretrained(self, checkpoint: str, prefix: str | None) -> None:
        state = read_backbone_state(checkpoint, prefix)
        frozen = self.frozen_tensors()
        check_frozen_tensors(frozen, state, source=checkpoint, added=self._added_children())
        for key, tensor in frozen.items():
            if key in state:
                tensor.copy_(state[key])
        self.frozen_source = checkpoint
        print_log(f'{len(frozen)} frozen tensors loaded strictly from {checkpoint}', 'current')

    def _init_randomly(self) -> None:
        # `plain` is no child, so mmengine's bookkeeping of initial values has to be handed to it.
        info = getattr(self, '_params_init_info', None)
        if info is not None:
            self.plain._params_init_info = info
        if self.init_cfg is not None:
            self.plain.init_cfg = self.init_cfg
        self.plain.init_weights()
        if info is not None:
            del self.plain._params_init_info

    def _may_be_random(self) -> bool:
        return self.allow_random_backbone or self.frozen_source is not None

    def _added_children(self) -> tuple[str, ...]:
        return tuple(set(self._modules) - self.frozen_children)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Refuse a state dict that would leave the frozen backbone wrong or random; mmengine would only warn."""
        state = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        added = self._added_children()
        if any(key.split('.')[0] not in added for key in state) or not self._may_be_random():
            check_frozen_tensors(
                self.frozen_tensors(), state, source=f'the state dict (prefix {prefix!r})', added=added
            )
            self.frozen_source = 'a loaded state dict'
        super()._load_from_state_dict(state_dict, prefix, *args)
