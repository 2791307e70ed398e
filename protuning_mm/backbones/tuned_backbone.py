"""A backbone of the host libraries or timm, combined with one or several tunings."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from itertools import chain
from typing import Any, ClassVar

from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from protuning_mm.backbones.base_weights import BaseWeights
from protuning_mm.backbones.frozen_features import FrozenFeatures
from protuning_mm.backbones.hosts import get_plain
from protuning_mm.backbones.plain_copies import merged, untuned
from protuning_mm.backbones.rotary_tables import keep_rotary_tables
from protuning_mm.backbones.stage_hooks import forward_hooks, hook_stages
from protuning_mm.backbones.stage_modules import FrozenStem, make_stages, run_stem
from protuning_mm.backbones.trial_forward import check_by_trial_forward
from protuning_mm.backbones.unchanged_on_error import unchanged_on_error
from protuning_mm.frozen import freeze_efficiently, read_mode
from protuning_mm.registry import MODELS
from protuning_mm.stages import read_stages
from protuning_mm.stages.layouts import Feature
from protuning_mm.stages.readers import describe
from protuning_mm.tunings import TuningError
from protuning_mm.tunings.build import TuningCfg, build_tunings, complete_settings

# Where nn.Module stores its parameters, buffers and children. This module shares these containers with the host's
# backbone, so every tensor keeps the name that it has there.
_TREE = ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set')
_LOADING = ('_load_state_dict_pre_hooks', '_load_state_dict_post_hooks')


@MMENGINE_MODELS.register_module()
@MODELS.register_module()
class TunedBackbone(BaseWeights):
    """A pre-trained backbone of a host library (mmdet, mmseg, mmpretrain) or timm, with one or several tunings.

    This module contains the host's own backbone, called the plain backbone. It shares the plain backbone's children,
    parameters and buffers, and runs the plain backbone's forward. The state dict of the tuned network is therefore that
    of the plain network plus the keys of the added modules: checkpoints of the hosts load without conversion, and
    checkpoints saved here load in the hosts' own classes, which ignore the added tensors.

    The tuning, not the host's ``frozen_stages``, decides what is frozen. Frozen parameters do not require a gradient.
    Unless the tuning trains the whole backbone, the plain backbone stays in eval mode regardless of ``train()``: batch
    norms use their pre-trained statistics and do not update them.

    If Pro-Tuning acts on every stage, the child ``prompts`` contains its prompt blocks, and the paper's loop over
    stages (:meth:`features`) is::

        x = backbone.stem(image)
        for stage, prompt in zip(backbone.stages, backbone.prompts):
            x = stage(x)
            x = x + prompt(x)

    Args:
        backbone (dict | nn.Module): The backbone's config, in the form that the host library expects. ``type='timm'``
            with ``model_name`` builds a model of timm. With ``out_indices`` it returns a feature pyramid, otherwise the
            pooled feature. A network is taken over with its weights; do not use it elsewhere. If
            this fails, the network is unchanged.
        tuning (str | dict | list): One or several tunings: ``'pro'``, ``dict(type='lora', rank=8)``, … Defaults to
            ``'pro'``.
        num_stages (int): Number of stages into which to divide a plain vision transformer. Defaults to 4.
        host (str, optional): ``mmdet``, ``mmseg`` or ``mmpretrain``. Defaults to the current default scope.
        init_cfg (dict, optional): ``dict(type='Pretrained', checkpoint=…)`` gives the checkpoint of the backbone
            (``torchvision://resnet50``, ``open-mmlab://resnet50_v1c``, a path, a whole detector or segmentor, …). It is
            loaded strictly. Any other value initializes the backbone randomly, as the host does. Defaults to the
            ``init_cfg`` in the backbone's config.
        pretrained (str, optional): Short for ``init_cfg=dict(type='Pretrained', checkpoint=…)``, as in mmseg.
        allow_random_backbone (bool): Whether training may start with random frozen weights. Defaults to False.
        efficient_frozen (bool | str): How the frozen modules run (:mod:`protuning_mm.frozen`). ``'exact'``, or True,
            saves only what the gradients need, with batch norms folded into convolutions; results differ by rounding
            alone. ``'int8'`` saves it in 8 bits: outputs are those of ``'exact'``, gradients are off by up to about a
            per cent. ``'recompute'`` saves the inputs of blocks and runs the blocks again, which takes more time.
            False runs them as the host does. Defaults to True.

    Attributes:
        plain (nn.Module): The host's backbone, an instance of the host's class. It shares its children, parameters and
            buffers with this module.
        frozen_source (str, optional): The checkpoint from which the frozen tensors were loaded, or the base of a loaded
            delta; ``'a loaded state dict'`` if they come from ``load_state_dict``; None if the frozen tensors are
            random.
        frozen_prefix (str, optional): Key prefix of the backbone in that checkpoint.
        allow_random_backbone (bool): Whether training may start with random frozen weights.

    Shape:
        - Input: (N, 3, H, W), or the :class:`~protuning_mm.backbones.frozen_features.FrozenFeatures` of such images
        - Output: as the plain backbone's; for a model of timm always a tuple

    Warns:
        UserWarning: once, at the first training forward, if the frozen tensors are random and ``allow_random_backbone``
            is False.

    Raises:
        TypeError: the backbone's class is not supported; see :func:`protuning_mm.register_reader`.
        ValueError: both ``pretrained`` and ``init_cfg`` are given; a setting of the backbone or tuning is out of range.
        TuningError: a tuning does not fit the backbone or the other tunings.
        FrozenWeightsError: a checkpoint does not match the backbone.
    """

    accepts_deltas: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Mapping[str, Any] | nn.Module,
        tuning: TuningCfg = 'pro',
        num_stages: int = 4,
        host: str | None = None,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
        pretrained: str | None = None,
        allow_random_backbone: bool = False,
        efficient_frozen: bool | str = True,
    ) -> None:
        mode = read_mode(efficient_frozen)
        tunings = build_tunings(tuning)
        follows = any(each.follows_train_mode for each in tunings)
        with unchanged_on_error(backbone) if isinstance(backbone, nn.Module) else nullcontext():
            found = get_plain(backbone, host, init_cfg, pretrained, norm_eval=follows)
            super().__init__(found.source, allow_random_backbone, found.init_cfg)
            self.tunings = tunings
            self.ignored_args = found.ignored
            self.efficient_frozen = mode
            self._tune(found.network, found.cfg, num_stages)

    def _tune(self, plain: nn.Module, cfg: Mapping[str, Any], num_stages: int) -> None:
        """Take over the plain backbone's children, freeze it, and add the tunings."""
        # `plain` is set without nn.Module.__setattr__, so that it does not become a child. Below, this module and
        # `plain` come to share one dict of children. If that dict contained `plain`, then `plain` would be a child of
        # itself.
        object.__setattr__(self, 'plain', plain)
        for table in (*_TREE, *_LOADING):
            object.__setattr__(self, table, getattr(plain, table))
        self.structure = read_stages(plain, num_stages)
        self.plain_children = frozenset(plain._modules)
        self.plain_keys = frozenset(plain.state_dict())
        # parameters that the host itself does not train, such as fixed position embeddings
        self.never_trained = frozenset(key for key, param in plain.named_parameters() if not param.requires_grad)
        for param in plain.parameters():
            param.requires_grad_(False)
        keep_rotary_tables(plain)
        if self.efficient_frozen:  # before a tuning adds hooks or modules
            paths = [path for stage in self.structure.stages for path in stage.modules]
            freeze_efficiently(plain, self.efficient_frozen, [plain.get_submodule(path) for path in paths])
        for each in self.tunings:
            each.efficient = bool(self.efficient_frozen)
        before = forward_hooks(plain)
        self._set_up_tunings()
        self.hooked = forward_hooks(plain) - before
        check_by_trial_forward(self, cfg)
        self.hooked = forward_hooks(plain) - before  # again: the check may have added hooks
        self.train(self.training)

    def _set_up_tunings(self) -> None:
        params = dict(self.plain.named_parameters())
        structure = self.structure.up_to_last_out()
        for tuning in self.tunings:
            if self.efficient_frozen == 'recompute' and not tuning.recomputable:
                raise TuningError(f"{tuning.name} cannot run with efficient_frozen='recompute': use 'int8' or 'exact'")
            try:
                tuning.setup(self.plain, structure)
            except TuningError as error:
                raise TuningError(f'{error} (the backbone is {describe(self.plain)})') from None
            kept = (key for key in tuning.trained - self.never_trained if not key.startswith(structure.unused_keys))
            tuning.trained = frozenset(kept)
            for key in tuning.trained:
                params[key].requires_grad_(True)
        like = next(iter(params.values()))  # a network that was handed over may be on a GPU, or in double precision
        for tuning in self.tunings:  # only after every setup, which must see the plain backbone without additions
            if tuning.added is not None:
                self.add_module(tuning.child, tuning.added.to(like.device, like.dtype))
        self._token_grid = hook_stages(self.plain, structure, self.tunings)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the plain backbone, such as ``out_indices``, which a host's model may read."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            plain = self.__dict__.get('plain')
            if name.startswith('_') or not hasattr(plain, name):
                raise
            return getattr(plain, name)

    def forward(self, x: Tensor | FrozenFeatures) -> Any:
        self.warn_of_random_weights()
        return self.finish(x, x.resume(self) if isinstance(x, FrozenFeatures) else self._run(x))

    def finish(self, x: Any, outs: Any) -> Any:
        """Return the outputs of the tuned backbone, given those of the plain backbone's forward."""
        for tuning in self.tunings:
            outs = tuning.after_forward(x, outs)
        return outs

    def _run(self, x: Tensor) -> Any:
        run = self.structure.run
        return self.plain(x) if run is None else run(self.plain, x)

    def features(self, image: Tensor) -> list[Feature]:
        """Compute the sum x̃_i of feature map and prompt for each stage, by the paper's loop.

        This requires Pro-Tuning in every stage up to the last output.

        :meth:`forward` runs the host's own forward, which computes the same sums inside, but may normalize them or
        return them in another layout.

        Args:
            image (Tensor): (N, 3, H, W).

        Returns:
            list[Tensor]: (N, C_i, H_i, W_i) for each stage up to the last output.

        Raises:
            TypeError: the stages do not run one after the other, as in HRNet, or other layers run between them.
        """
        if not self.structure.in_sequence:
            raise TypeError(f'{describe(self.plain)} is no loop over stages: call it as a whole')
        outs = []
        x = self.stem(image)
        for stage, prompt in zip(self.stages, self.prompts):
            x = stage(x)  # frozen
            x = x + prompt(x)  # x̃_i feeds the next stage and the neck
            outs.append(x)
        return outs

    @property
    def stem(self) -> FrozenStem:
        """The host's forward before the first stage: (N, 3, H, W) to the first stage's input (N, C, H', W')."""
        first = self.plain.get_submodule(self.structure.stages[0].modules[0])
        run = partial(run_stem, self._run, first, layout=self.structure.layout, grid=self._token_grid)
        return FrozenStem(run, self._modules.get('stem'))

    @property
    def stages(self) -> nn.ModuleList:
        """The pre-trained stages in order; each maps the feature of the previous stage to its own."""
        # self._modules: this property hides a child `stages` of the host
        return make_stages(self.plain, self.structure, self._modules.get('stages'))

    @property
    def trained_keys(self) -> frozenset[str]:
        """Keys of the plain backbone's parameters that the tunings train."""
        return frozenset(chain.from_iterable(tuning.trained for tuning in self.tunings))

    @property
    def frozen_keys(self) -> frozenset[str]:
        """Keys of the plain backbone's tensors that training leaves bit-identical."""
        if any(tuning.follows_train_mode for tuning in self.tunings):  # batch norms may update their statistics
            return frozenset()
        return self.plain_keys - self.trained_keys

    @property
    def tuning_settings(self) -> list[dict[str, Any]]:
        """Names and all arguments of the tunings, in JSON types."""
        return [tuning.settings for tuning in self.tunings]

    def complete_settings(self, stored: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add to the settings of a stored delta those that later versions introduced, with their defaults."""
        return [complete_settings(each) for each in stored]

    @property
    def added_children(self) -> tuple[str, ...]:
        """Names of the children that tunings added; the state dict keys of the added tensors begin with these names."""
        return tuple(name for name in self._modules if name not in self.plain_children)

    def init_weights(self) -> None:
        """Initialize the plain backbone and then the tunings.

        If ``init_cfg`` gives a checkpoint, the plain backbone is loaded strictly from it.

        Raises:
            CheckpointError: the checkpoint cannot be read.
            FrozenWeightsError: the checkpoint lacks tensors of the backbone or belongs to another network.
        """
        self.init_plain()
        for tuning in self.tunings:
            tuning.init_weights()
        self._is_init = True

    def untuned(self) -> nn.Module:
        """Return a copy of the plain backbone, bit-identical to the loaded checkpoint.

        It is in training mode and fully trainable. If a tuning trained parameters of the plain backbone, their
        original values are read again from the checkpoint in ``init_cfg``.

        Raises:
            TuningError: a tuning trains parameters of the plain backbone, and ``init_cfg`` gives no checkpoint.
        """
        return untuned(self)

    def merge(self) -> nn.Module:
        """Return a plain backbone with the tunings merged into its weights; in eval mode it computes the same outputs.

        The returned backbone is in training mode and fully trainable. A model of timm returns the pooled feature as a
        tensor, even if ``out_indices`` is set; its ``forward_intermediates`` returns the feature pyramid.

        Raises:
            TuningError: a tuning cannot be merged.
        """
        return merged(self)

    def train(self, mode: bool = True) -> 'TunedBackbone':
        super().train(mode)
        follows = mode and any(tuning.follows_train_mode for tuning in self.tunings)
        self.plain.training = follows  # some hosts read it in forward, for example for dropout before a classifier
        if follows:
            self.plain.train(mode)
        else:
            for name in self.plain_children:
                self._modules[name].eval()
        return self
