"""The base of a tuned backbone: the weights of its plain backbone, which are read and loaded strictly."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from protuning_mm.backbones.hosts import LOADED, read_timm
from protuning_mm.weights.deltas import complete_delta
from protuning_mm.weights.pretrained import check_frozen_tensors, read_backbone_state

if TYPE_CHECKING:
    from protuning_mm.stages import Stages


class BaseWeights(BaseModule):
    """A backbone that loads the tensors of its plain backbone strictly, and knows where they came from.

    Args:
        source (str, optional): Where the tensors come from, if they are not random.
        allow_random_backbone (bool): Whether training may start with random frozen weights.
        init_cfg (dict | list, optional): mmengine's ``init_cfg``.
    """

    warned_of_random: bool = False
    plain: Any
    structure: 'Stages'
    plain_keys: frozenset[str]

    def __init__(self, source: str | None, allow_random_backbone: bool, init_cfg: Any) -> None:
        super().__init__(init_cfg)
        self.frozen_source = source
        self.frozen_prefix: str | None = None
        self.allow_random_backbone = allow_random_backbone

    @property
    @abstractmethod
    def frozen_keys(self) -> frozenset[str]:
        """Keys of the plain backbone's tensors that training leaves bit-identical."""

    @property
    @abstractmethod
    def added_children(self) -> tuple[str, ...]:
        """Names of the children that are no part of the plain backbone."""

    def plain_tensors(self) -> dict[str, Tensor]:
        """Return the parameters and buffers of the plain backbone, by the plain backbone's keys."""
        return {k: v for k, v in self.state_dict().items() if k in self.plain_keys}

    def frozen_tensors(self) -> dict[str, Tensor]:
        """Return those of :meth:`plain_tensors` that are frozen."""
        frozen = self.frozen_keys
        return {k: v for k, v in self.plain_tensors().items() if k in frozen}

    def needs_weights(self) -> bool:
        """Return whether frozen tensors are random although ``allow_random_backbone`` is not set."""
        return bool(self.frozen_keys) and self.frozen_source is None and not self.allow_random_backbone

    def init_plain(self) -> None:
        """Load the checkpoint that ``init_cfg`` gives, or initialize the plain backbone as the host does.

        Raises:
            CheckpointError: the checkpoint cannot be read.
            FrozenWeightsError: the checkpoint lacks tensors of the backbone or belongs to another network.
        """
        cfg = self.init_cfg
        if isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained':
            self.fill_from(cfg['checkpoint'], cfg.get('prefix'))
        elif self.frozen_source is None:
            _init_randomly(self.plain, cfg, getattr(self, '_params_init_info', None))

    def fill_from(self, checkpoint: str, prefix: str | None = None) -> None:
        """Load a checkpoint strictly into the plain backbone; see :meth:`read_base` for the arguments.

        Raises:
            CheckpointError: see :meth:`read_base`.
            FrozenWeightsError: the checkpoint lacks tensors or belongs to another network. No tensor is copied then.
        """
        state, tensors = self.read_base(checkpoint, prefix), self.plain_tensors()
        check_frozen_tensors(tensors, state, checkpoint, self.added_children, self.structure.optional_keys)
        with torch.no_grad():
            for key in tensors.keys() & state.keys():
                tensors[key].copy_(state[key])
        self.frozen_source, self.frozen_prefix = checkpoint, prefix
        print_log(f'{len(tensors)} tensors of the backbone loaded strictly from {checkpoint}', 'current')

    def read_base(self, source: str, prefix: str | None) -> dict[str, Tensor]:
        """Read the plain backbone's tensors from a checkpoint, in any published layout.

        Position embeddings are resized to the backbone's size.

        Args:
            source (str): A path, a URL or another address of mmengine, such as ``torchvision://resnet50``, or
                ``timm://<model name>``.
            prefix (str, optional): Key prefix of the backbone in the checkpoint.

        Raises:
            CheckpointError: the checkpoint is missing or damaged, contains no backbone, or unpickling it would run
                code.
        """
        if source.startswith('timm://'):
            return read_timm(self.plain, source)
        state = read_backbone_state(source, prefix, self.plain_keys)
        if self.structure.convert is not None:
            state = self.structure.convert(self.plain, state)
        _run_load_hooks(self.plain, state)
        return state

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Complete a delta, and reject a state dict that does not match the frozen backbone; mmengine would only warn.

        Raises:
            CheckpointError: a delta does not fit.
            FrozenWeightsError: the state dict does not match the frozen backbone.
        """
        complete_delta(self, {'': self}, state_dict, prefix)
        _run_load_hooks(self.plain, state_dict, prefix)
        self._check_state({k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_state(self, state: dict[str, Tensor], prefix: str) -> None:
        added = self.added_children
        if all(key.split('.')[0] in added for key in state) and not self.needs_weights():
            return
        check_frozen_tensors(self.plain_tensors(), state, f'the state dict (prefix {prefix!r})', added)
        loaded = [(tensor, state[key]) for key, tensor in self.frozen_tensors().items() if key in state]
        if self.frozen_source is None or not all(torch.equal(own, new.to(own)) for own, new in loaded):
            self.frozen_source, self.frozen_prefix = LOADED, None

    def warn_of_random_weights(self) -> None:
        """Warn once if training starts with random frozen tensors; a plain PyTorch loop has no hook that checks it."""
        training = self.training and torch.is_grad_enabled()
        if self.warned_of_random or self.frozen_source is not None or not training:
            return
        if self.needs_weights():
            warnings.warn(
                f'{type(self).__name__}: the weights of the frozen {type(self.plain).__name__} were not loaded '
                "from a file: they are random and will not be trained. Set init_cfg=dict(type='Pretrained', "
                'checkpoint=…) and call init_weights(), or load a state dict; to train with random weights, set '
                'allow_random_backbone=True',
                stacklevel=4,  # the caller of the model
            )
        self.warned_of_random = True


def _init_randomly(plain: Any, init_cfg: Any, params_info: Any) -> None:
    """Initialize a host's backbone by the host's own code. Models of timm are already initialized when built.

    Args:
        plain (nn.Module): The backbone.
        init_cfg (dict, optional): mmengine's ``init_cfg``. Defaults to the backbone's own.
        params_info (dict, optional): mmengine's record of initial values, if the whole model is being initialized.
    """
    if not hasattr(plain, '_params_init_info') and not isinstance(plain, BaseModule):
        return
    if params_info is not None:
        plain._params_init_info = params_info
    if init_cfg is not None:
        plain.init_cfg = init_cfg
    plain.init_weights()
    if params_info is not None:
        del plain._params_init_info


def _run_load_hooks(plain: nn.Module, state: dict[str, Tensor], prefix: str = '') -> None:
    """Run the backbone's own pre-loading hooks, such as the one that resizes position embeddings."""
    for hook in plain._load_state_dict_pre_hooks.values():
        hook(state, prefix, {}, True, [], [], [])
