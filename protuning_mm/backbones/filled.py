"""How a backbone's plain tensors are filled: strictly, from a file that is known, or from a base that a delta names."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from protuning_mm.backbones.hosts import read_timm
from protuning_mm.stages import Stages
from protuning_mm.tunings import Tuning
from protuning_mm.weights.deltas import complete
from protuning_mm.weights.pretrained import check_frozen_tensors, read_backbone_state

if TYPE_CHECKING:
    from protuning_mm.backbones.tuned_backbone import TunedBackbone

LOADED = 'a loaded state dict'


class FilledBackbone(BaseModule):
    """The loading side of a tuned backbone.

    Attributes:
        plain (nn.Module): The host's backbone; it is this module's tree under its host's class.
        frozen_source (str, optional): Where the frozen tensors came from; None while they are random.
        frozen_prefix (str, optional): The prefix of their names there.
        allow_random_backbone (bool): Whether training may start on random ones.
        accepts_deltas (bool): Deltas are completed here, and in every model that this is a part of.
    """

    accepts_deltas: ClassVar[bool] = True
    random_is_told: bool = False
    plain: nn.Module
    reading: Stages
    tunings: list[Tuning]
    plain_keys: frozenset[str]
    plain_children: frozenset[str]
    allow_random_backbone: bool
    frozen_source: str | None
    frozen_prefix: str | None

    @property
    @abstractmethod
    def frozen_keys(self) -> frozenset[str]:
        """The plain backbone's tensors that stay bit for bit what they were."""

    @property
    def tuning_settings(self) -> list[dict[str, Any]]:
        """The tunings' names and all their settings, in JSON's types."""
        return [tuning.settings for tuning in self.tunings]

    def plain_tensors(self) -> dict[str, Tensor]:
        """The plain backbone's parameters and buffers by its own keys."""
        return {k: v for k, v in self.state_dict().items() if k in self.plain_keys}

    def frozen_tensors(self) -> dict[str, Tensor]:
        """Those of them that are frozen."""
        frozen = self.frozen_keys
        return {k: v for k, v in self.plain_tensors().items() if k in frozen}

    def init_weights(self) -> None:
        """Fill the plain backbone, strictly where ``init_cfg`` names a file, then what was added."""
        cfg = self.init_cfg
        if isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained':
            self.fill_from(cfg['checkpoint'], cfg.get('prefix'))
        elif self.frozen_source is None:
            self._init_randomly()
        for tuning in self.tunings:
            tuning.init_weights()
        self._is_init = True

    def read_base(self, source: str, prefix: str | None) -> dict[str, Tensor]:
        """Read the plain backbone's tensors from a file, in any layout that it loads from.

        Raises:
            CheckpointError: the file is missing, damaged or no backbone's, or would run code.
        """
        return read_timm(self.plain, source) if source.startswith('timm://') else self._read(source, prefix)

    def _read(self, checkpoint: str, prefix: str | None) -> dict[str, Tensor]:
        state = read_backbone_state(checkpoint, prefix, self.plain_keys)
        return self._fitted(state, '')

    def _fitted(self, state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """Bring a published layout to the backbone's own keys, and positions to its own size, as the host would."""
        if self.reading.convert is not None and not prefix:
            state = self.reading.convert(self.plain, state)
        for hook in self._load_state_dict_pre_hooks.values():
            hook(state, prefix, {}, True, [], [], [])
        return state

    def fill_from(self, checkpoint: str, prefix: str | None = None) -> None:
        """Fill the plain backbone, strictly, from a file or scheme.

        Raises:
            CheckpointError: it cannot be read.
            FrozenWeightsError: it does not fill the backbone, or is of another network.
        """
        state = self._read(checkpoint, prefix)
        tensors = self.plain_tensors()
        check_frozen_tensors(
            tensors, state, source=checkpoint, added=self.added_children, optional=self.reading.unfilled
        )
        for key, tensor in tensors.items():
            if key in state:
                tensor.copy_(state[key])
        self.frozen_source, self.frozen_prefix = checkpoint, prefix
        print_log(f'{len(tensors)} tensors of the backbone loaded strictly from {checkpoint}', 'current')

    def _init_randomly(self) -> None:
        if not hasattr(self.plain, '_params_init_info') and not isinstance(self.plain, BaseModule):
            return  # timm initialises while it builds
        # `plain` is no child, so mmengine's bookkeeping of initial values has to be handed to it.
        info = getattr(self, '_params_init_info', None)
        if info is not None:
            self.plain._params_init_info = info
        if self.init_cfg is not None:
            self.plain.init_cfg = self.init_cfg
        self.plain.init_weights()  # type: ignore[operator]
        if info is not None:
            del self.plain._params_init_info

    def tell_if_random(self) -> None:
        """Warn, once, where training begins on random frozen tensors: in a loop of one's own nobody else would."""
        if self.random_is_told or self.frozen_source is not None or not (self.training and torch.is_grad_enabled()):
            return
        if self.needs_weights():
            warnings.warn(
                f'{type(self).__name__}: its frozen {type(self.plain).__name__} came from no file: its tensors '
                "are random, and nothing will train them. Set init_cfg=dict(type='Pretrained', checkpoint=…) and call "
                'init_weights(), or load a state dict; allow_random_backbone=True if this is meant',
                stacklevel=4,  # the caller of the model
            )
        self.random_is_told = True

    def needs_weights(self) -> bool:
        """Whether frozen tensors still hold random values that nothing will train."""
        return bool(self.frozen_keys) and self.frozen_source is None and not self.allow_random_backbone

    @property
    def added_children(self) -> tuple[str, ...]:
        """The names of the children that tunings added; their keys begin so."""
        return tuple(name for name in self._modules if name not in self.plain_children)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Refuse a state dict that would leave the backbone wrong or random; mmengine would only warn."""
        complete(self, {'': self}, state_dict, prefix)
        for hook in self._load_state_dict_pre_hooks.values():  # positions of another size
            hook(state_dict, prefix, {}, True, [], [], [])
        state = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        added = self.added_children
        if any(key.split('.')[0] not in added for key in state) or self.needs_weights():
            check_frozen_tensors(self.plain_tensors(), state, source=f'the state dict (prefix {prefix!r})', added=added)
            if self.frozen_source is None or not self._holds(state):
                self.frozen_source, self.frozen_prefix = LOADED, None
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _holds(self, state: Mapping[str, Tensor]) -> bool:
        """Whether the frozen tensors are those of a state already, bit for bit."""
        here = self.frozen_tensors()
        return all(torch.equal(tensor, state[key].to(tensor)) for key, tensor in here.items() if key in state)


def tuned_backbones(model: nn.Module) -> 'dict[str, TunedBackbone]':
    """The tuned backbones in a model, by name."""
    return {name: part for name, part in model.named_modules() if isinstance(part, FilledBackbone)}


def _complete_delta(model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
    complete(model, tuned_backbones(model), state_dict, prefix)


def _accept_deltas(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    """Let every model that a tuned backbone becomes a part of complete a delta before it loads.

    The backbone alone could not: a delta's record is for the whole model, and a child sees only its own part of a
    state dict. The model is the host's class, so torch tells us when it takes the backbone in.
    """
    if _accepts(child) and not _accepts(parent):
        object.__setattr__(parent, 'accepts_deltas', True)
        parent.register_load_state_dict_pre_hook(_complete_delta)


def _accepts(module: nn.Module | None) -> bool:
    # not getattr: a compiled model looks for what it lacks in the model that it is about to take in
    return isinstance(module, FilledBackbone) or (module is not None and 'accepts_deltas' in vars(module))


register_module_module_registration_hook(_accept_deltas)
