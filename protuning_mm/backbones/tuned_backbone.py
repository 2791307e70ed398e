"""Any backbone that can be read as stages, with any tuning."""

import copy
import warnings
from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from protuning_mm.backbones.hosts import build_plain, read_timm
from protuning_mm.backbones.rehearsal import rehearse
from protuning_mm.backbones.stage_hooks import forward_hooks, hook_stages, remove_hooks
from protuning_mm.backbones.stage_modules import FrozenStage, FrozenStem, run_stem
from protuning_mm.frozen import freeze_efficiently, refold, release, verify
from protuning_mm.registry import MODELS
from protuning_mm.stages import SettingError, read_stages
from protuning_mm.stages.layouts import Feature
from protuning_mm.stages.readers import describe
from protuning_mm.tunings import TuningError
from protuning_mm.tunings.build import TuningCfg, build_tunings
from protuning_mm.weights.backbone_state import convert_state, fill_strictly, holds, init_randomly, run_load_hooks
from protuning_mm.weights.deltas import complete
from protuning_mm.weights.pretrained import check_frozen_tensors, read_backbone_state

# The tables that make a module's tree. Sharing them gives every tensor the plain backbone's own name.
_TREE = ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set')
_LOADING = ('_load_state_dict_pre_hooks', '_load_state_dict_post_hooks')
# the source of frozen tensors that came by load_state_dict
LOADED = 'a loaded state dict'


@MMENGINE_MODELS.register_module()
@MODELS.register_module()
class TunedBackbone(BaseModule):
    """A backbone of the hosts or of timm, and what a tuning trains of it and adds to it.

    The plain backbone's tables of children, parameters and buffers become this module's own, and its own forward does
    the work. So a state dict of the tuned network is the plain network's plus what was added: checkpoints of the
    hosts load as they are, and what is saved here loads there.

    Frozen means: no parameter takes a gradient, and the plain backbone stays in eval mode (batch norms use and keep
    their pre-trained statistics), whatever ``train()`` is told. The tuning owns freezing, and nothing else does.

    In a loop, as the paper writes it (:meth:`features`)::

        x = backbone.stem(image)
        for stage, prompt in zip(backbone.stages, backbone.prompts):
            x = stage(x)
            x = x + prompt(x)

    Args:
        backbone (dict): The backbone's config in its host's words. ``type='timm'`` with ``model_name`` is a model of
            timm; ``out_indices`` makes it a pyramid, without them its output is the pooled feature.
        tuning (str | dict | list): One tuning or several: ``'pro'``, ``dict(type='lora', rank=8)``, … Defaults to
            ``'pro'``.
        num_stages (int): How many stages a plain vision transformer is cut into. Defaults to 4.
        host (str, optional): ``mmdet``, ``mmseg`` or ``mmpretrain``. Defaults to the current default scope.
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint=…)`` names the file of the backbone's weights
            (``torchvision://resnet50``, ``open-mmlab://resnet50_v1c``, a path, a whole detector or segmentor, …). It
            is loaded strictly. Anything else initialises the backbone at random, as the host would. Defaults to the
            backbone config's own.
        pretrained (str, optional): Short for ``init_cfg=dict(type='Pretrained', checkpoint=…)``; mmseg has it.
        allow_random_backbone (bool): Let training start on frozen weights that came from no file. Defaults to False.
        efficient_frozen (bool): Run what is frozen on a graph that keeps almost nothing, with batch norms folded into
            convolutions (:mod:`protuning_mm.frozen`). Results differ by rounding alone. Defaults to True.

    Attributes:
        plain (nn.Module): The host's backbone; it is this module's tree under its host's class.
        frozen_source (str, optional): The file that the frozen tensors came from; None while they are random.
        frozen_prefix (str, optional): The prefix of their names there.
        allow_random_backbone (bool): Whether training may start on random frozen tensors.

    Shape:
        - Input: (N, 3, H, W)
        - Output: what the plain backbone returns

    Warns:
        UserWarning: once, at the first forward of a training, if the frozen tensors came from no file.

    Raises:
        TypeError: the backbone cannot be read as stages.
        ValueError: both ``pretrained`` and ``init_cfg`` are given; a setting of the backbone or tuning is out of range.
        TuningError: a tuning does not fit the backbone, or the others.
        FrozenWeightsError: a checkpoint does not fill the backbone.
    """

    accepts_deltas: ClassVar[bool] = True
    _warned_of_random: bool = False

    def __init__(
        self,
        backbone: Mapping[str, Any],
        tuning: TuningCfg = 'pro',
        num_stages: int = 4,
        host: str | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        pretrained: str | None = None,
        allow_random_backbone: bool = False,
        efficient_frozen: bool = True,
    ) -> None:
        if not isinstance(backbone, Mapping) or 'type' not in backbone:
            raise SettingError(
                f"backbone={backbone!r}: must be a dict with a type, such as dict(type='ResNet', depth=50)"
            )
        cfg = dict(backbone)
        init_cfg = _one_init_cfg(init_cfg, pretrained, cfg)
        super().__init__(init_cfg)
        tunings = build_tunings(tuning)
        # the tuning owns freezing: inherited host configs bring these, and they are accepted
        owned = ('frozen_stages',) if any(t.trains_mode for t in tunings) else ('frozen_stages', 'norm_eval')
        self.ignored_args = {key: cfg.pop(key) for key in owned if key in cfg}
        plain = build_plain(cfg, host)
        # Neither is a child: `plain` is this module's tree under its host's class.
        object.__setattr__(self, 'plain', plain)
        for table in (*_TREE, *_LOADING):
            object.__setattr__(self, table, getattr(plain, table))
        self.reading = read_stages(plain, num_stages)
        self.allow_random_backbone = allow_random_backbone
        # timm loads its own weights while it builds
        self.frozen_source = getattr(plain, 'pretrained_source', None)
        self.frozen_prefix: str | None = None
        self.plain_children = frozenset(plain._modules)
        self.plain_keys = frozenset(plain.state_dict())
        # such as weights of a classifier that is not there, or fixed positions: no tuning trains them either
        self.never_trained = frozenset(key for key, param in plain.named_parameters() if not param.requires_grad)
        for param in plain.parameters():
            param.requires_grad_(False)
        self.efficient_frozen = efficient_frozen
        if efficient_frozen:  # before anything is added
            freeze_efficiently(plain)
        self.tunings = tunings
        for each in tunings:
            each.efficient = efficient_frozen
        before = forward_hooks(plain)
        self._set_up_tunings()
        self.hooked = forward_hooks(plain) - before
        rehearse(self, cfg)
        self.hooked = forward_hooks(plain) - before
        self.train(self.training)

    def _set_up_tunings(self) -> None:
        params = dict(self.plain.named_parameters())
        reading = self.reading.up_to_last_out()
        for tuning in self.tunings:
            try:
                tuning.setup(self.plain, reading)
            except TuningError as error:
                raise TuningError(f'{error} (the backbone is {describe(self.plain)})') from None
            kept = (key for key in tuning.trained - self.never_trained if not key.startswith(reading.unused_keys))
            tuning.trained = frozenset(kept)
            for key in tuning.trained:
                params[key].requires_grad_(True)
        for tuning in self.tunings:  # after all of them have looked at the plain backbone
            if tuning.added is not None:
                self.add_module(tuning.child, tuning.added)
        self._grid = hook_stages(self.plain, reading, self.tunings)

    def forward(self, x: Tensor) -> Any:
        self._warn_of_random_weights()
        outs = self._run(x)
        for tuning in self.tunings:
            outs = tuning.after_forward(x, outs)
        return outs

    def _run(self, x: Tensor) -> Any:
        run = self.reading.run
        return self.plain(x) if run is None else run(self.plain, x)

    def features(self, image: Tensor) -> list[Feature]:
        """Compute the stages' features x̃_i one by one, as the paper writes it (Pro-Tuning in every stage).

        :meth:`forward` computes the same by the host's own forward, with its output norms and in its layout.

        Args:
            image (Tensor): (N, 3, H, W).

        Returns:
            list[Tensor]: (N, C_i, H_i, W_i) for each stage up to the last output.
        """
        outs = []
        x = self.stem(image)
        for stage, prompt in zip(self.stages, self.prompts):
            x = stage(x)  # frozen
            x = x + prompt(x)  # x̃_i feeds the next stage and the neck
            outs.append(x)
        return outs

    @property
    def stem(self) -> FrozenStem:
        """What the host's forward does before its first stage, as a callable of the image (N, 3, H, W)."""
        first = self.plain.get_submodule(self.reading.stages[0].modules[0])
        run = partial(run_stem, self._run, first, layout=self.reading.layout, grid=self._grid)
        return FrozenStem(run, self._modules.get('stem'))

    @property
    def stages(self) -> nn.ModuleList:
        """The pre-trained stages in order, each a callable of the feature of the stage before."""
        stages, named = self.reading.stages, self._modules.get('stages')
        trees = list(named.children()) if named is not None else []
        if len(trees) != len(stages):
            trees = [None] * len(stages)
        return nn.ModuleList(
            FrozenStage(
                [self.plain.get_submodule(path) for path in stage.modules],
                self.plain.get_submodule(stage.end),
                self.reading.layout,
                tree,
            )
            for stage, tree in zip(stages, trees)
        )

    @property
    def trained_keys(self) -> frozenset[str]:
        """The plain backbone's own parameters that the tunings train."""
        return frozenset(chain.from_iterable(tuning.trained for tuning in self.tunings))

    @property
    def frozen_keys(self) -> frozenset[str]:
        """The plain backbone's tensors that stay bit for bit what they were."""
        if any(tuning.trains_mode for tuning in self.tunings):  # batch norms may gather statistics
            return frozenset()
        return self.plain_keys - self.trained_keys

    @property
    def tuning_settings(self) -> list[dict[str, Any]]:
        """The tunings' names and all their settings, in JSON's types."""
        return [tuning.settings for tuning in self.tunings]

    @property
    def added_children(self) -> tuple[str, ...]:
        """The names of the children that tunings added; their keys begin so."""
        return tuple(name for name in self._modules if name not in self.plain_children)

    def plain_tensors(self) -> dict[str, Tensor]:
        """The plain backbone's parameters and buffers by its own keys."""
        return {k: v for k, v in self.state_dict().items() if k in self.plain_keys}

    def frozen_tensors(self) -> dict[str, Tensor]:
        """The frozen ones among :meth:`plain_tensors`."""
        frozen = self.frozen_keys
        return {k: v for k, v in self.plain_tensors().items() if k in frozen}

    def init_weights(self) -> None:
        """Fill the plain backbone, strictly where ``init_cfg`` names a file, then initialize what was added."""
        cfg = self.init_cfg
        if isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained':
            self.fill_from(cfg['checkpoint'], cfg.get('prefix'))
        elif self.frozen_source is None:
            init_randomly(self.plain, cfg, getattr(self, '_params_init_info', None))
        for tuning in self.tunings:
            tuning.init_weights()
        self._is_init = True

    def fill_from(self, checkpoint: str, prefix: str | None = None) -> None:
        """Fill the plain backbone strictly.

        Args:
            checkpoint (str): A path, URL or scheme that mmengine knows.
            prefix (str, optional): The prefix of the backbone's keys there.

        Raises:
            CheckpointError: it cannot be read.
            FrozenWeightsError: it does not fill the backbone, or is of another network.
        """
        state, tensors = self._read(checkpoint, prefix), self.plain_tensors()
        fill_strictly(tensors, state, checkpoint, self.added_children, self.reading.optional_keys)
        self.frozen_source, self.frozen_prefix = checkpoint, prefix
        print_log(f'{len(tensors)} tensors of the backbone loaded strictly from {checkpoint}', 'current')

    def read_base(self, source: str, prefix: str | None) -> dict[str, Tensor]:
        """Read the plain backbone's tensors from a file, in any layout that it loads from.

        Raises:
            CheckpointError: the file is missing, damaged or no backbone's, or would run code.
        """
        return read_timm(self.plain, source) if source.startswith('timm://') else self._read(source, prefix)

    def _read(self, checkpoint: str, prefix: str | None) -> dict[str, Tensor]:
        state = read_backbone_state(checkpoint, prefix, self.plain_keys)
        return convert_state(self.plain, state, self.reading.convert)

    def needs_weights(self) -> bool:
        """Whether frozen tensors hold random values that nothing will train."""
        return bool(self.frozen_keys) and self.frozen_source is None and not self.allow_random_backbone

    def _warn_of_random_weights(self) -> None:
        """Warn once when training begins on random frozen tensors; a plain PyTorch loop has no hook that would."""
        if self._warned_of_random or self.frozen_source is not None or not (self.training and torch.is_grad_enabled()):
            return
        if self.needs_weights():
            warnings.warn(
                f'{type(self).__name__}: its frozen {type(self.plain).__name__} came from no file: its tensors '
                "are random, and nothing will train them. Set init_cfg=dict(type='Pretrained', checkpoint=…) and call "
                'init_weights(), or load a state dict; allow_random_backbone=True if this is meant',
                stacklevel=4,  # the caller of the model
            )
        self._warned_of_random = True

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Refuse a state dict that would leave the backbone wrong or random; mmengine would only warn."""
        complete(self, {'': self}, state_dict, prefix)
        run_load_hooks(self.plain, state_dict, prefix)
        state = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        added = self.added_children
        if any(key.split('.')[0] not in added for key in state) or self.needs_weights():
            check_frozen_tensors(self.plain_tensors(), state, source=f'the state dict (prefix {prefix!r})', added=added)
            if self.frozen_source is None or not holds(self.frozen_tensors(), state):
                self.frozen_source, self.frozen_prefix = LOADED, None
        super()._load_from_state_dict(state_dict, prefix, *args)

    def untuned(self) -> nn.Module:
        """Hand back a copy of the plain backbone, bit for bit what was loaded, and free to be trained.

        Parameters of its own that the tuning trained are read again from the file that they came from.

        Raises:
            TuningError: the tuning trains the backbone's own parameters, and no file of theirs is known.
        """
        plain = self._without_added()
        trained = self.plain_keys - self.frozen_keys
        if trained:
            cfg = self.init_cfg
            if not (isinstance(cfg, Mapping) and cfg.get('type') == 'Pretrained'):
                raise TuningError(
                    f'{self.tunings[0].name} trains parameters of the backbone itself, and no file is known to read '
                    "them from again: set init_cfg=dict(type='Pretrained', checkpoint=…)"
                )
            state = self._read(cfg['checkpoint'], cfg.get('prefix'))
            target = plain.state_dict()
            for key in trained & set(state):
                target[key].copy_(state[key])
        return plain

    def merge(self) -> nn.Module:
        """Hand back a plain backbone that computes what this one does, with the tuning folded into its weights.

        Raises:
            TuningError: a tuning cannot be folded.
        """
        tuned = copy.deepcopy(self)
        for tuning in tuned.tunings:
            tuning.merge(tuned.plain)
        return tuned._without_added(copied=True)

    def _without_added(self, copied: bool = False) -> nn.Module:
        tuned = self if copied else copy.deepcopy(self)
        plain: nn.Module = tuned.plain
        release(plain)
        for name in set(plain._modules) - self.plain_children:
            del plain._modules[name]
        remove_hooks(plain, tuned.hooked)
        plain.requires_grad_(True)
        plain.train()
        return plain

    def train(self, mode: bool = True) -> 'TunedBackbone':
        verify(self.plain)
        if mode != self.training:  # where EMA swaps weights behind torch's back
            refold(self.plain)
        super().train(mode)
        follows = mode and any(tuning.trains_mode for tuning in self.tunings)
        self.plain.training = follows  # the host's own forward looks at it: dropout before the classifier
        if follows:
            self.plain.train(mode)
        else:
            for name in self.plain_children:
                self._modules[name].eval()
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        verify(self.plain)
        return super().state_dict(*args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> 'TunedBackbone':
        refold(self.plain)
        super()._apply(fn, recurse)
        return self


def _one_init_cfg(init_cfg: Any, pretrained: str | None, backbone: dict[str, Any]) -> Any:
    """The one setting of the initial weights, taken out of the backbone's config where it stands there."""
    written = {
        'pretrained': pretrained,
        'init_cfg': init_cfg,
        'backbone.init_cfg': backbone.pop('init_cfg', None),
        'backbone.pretrained': None if backbone.get('type') == 'timm' else backbone.pop('pretrained', None),
    }
    given = {key: value for key, value in written.items() if value is not None}
    if len(given) > 1:
        listed = ' and '.join(f'{key}={value!r}' for key, value in given.items())
        raise SettingError(f'{listed} both name initial weights: keep one of them (set the other to None)')
    for key, value in given.items():
        return dict(type='Pretrained', checkpoint=value) if key.endswith('pretrained') else value
    return None
