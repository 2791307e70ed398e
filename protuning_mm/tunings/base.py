"""The base class of tunings.

A tuning selects which of the backbone's parameters are trained, and adds modules to the backbone.
"""

from collections.abc import Iterator
from threading import get_ident
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.weight_products import WeightProductMode


def current_thread() -> int:
    """Return the identity of the thread; 0 while a compiler runs, which cannot trace it."""
    return 0 if torch.compiler.is_compiling() else get_ident()


class TuningError(ValueError):
    """A tuning does not fit the backbone or another tuning, or it does not support an operation."""


class Tap:
    """A forward hook that replaces a frozen module's output y with ``added(x, y)``, where x is the module's input."""

    def __init__(self, added: nn.Module) -> None:
        self.added = added

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        x = args[0] if args else next(iter(kwargs.values()))
        if isinstance(output, tuple):
            return (self.added(x, output[0]), *output[1:])
        return self.added(x, output)


def block_layers(backbone: nn.Module, stages: Stages) -> Iterator[tuple[str, Any]]:
    """Yield path and module of all parts of the blocks, except those inside ``torch.nn.MultiheadAttention``."""
    for block in stages.blocks:
        parts = dict(backbone.get_submodule(block.path).named_modules())
        parts.pop('')  # the block itself
        inside = tuple(f'{name}.' for name, part in parts.items() if isinstance(part, nn.MultiheadAttention))
        yield from ((f'{block.path}.{name}', part) for name, part in parts.items() if not name.startswith(inside))


class Tuning:
    """A method for adapting a pre-trained backbone.

    The default behavior is linear probing: the whole backbone is frozen and nothing is added. To write a tuning,
    override some of :meth:`setup`, :meth:`after_stage`, :meth:`after_forward`, :meth:`init_weights` and :meth:`merge`.
    A tuning belongs to one backbone, to which its keys, paths and added modules refer; a deep copy of that backbone has
    its own copy of the tuning.

    Attributes:
        child (str): Name of the backbone's child that contains the added modules; their state dict keys begin with it.
        identity_at_init (bool): Whether the initialized tuning leaves the plain backbone's outputs unchanged.
        combines (bool): Whether the tuning can be combined with others.
        recomputable (bool): Whether the tuning works if a block's forward, without the hooks of the block itself, runs
            again in the backward pass.
        passes_to (type, optional): Class of the added modules. It gets the keyword arguments that the tuning's own
            constructor does not name.
        added (nn.ModuleDict | nn.ModuleList, optional): The added modules.
        trained (frozenset[str]): Keys of the plain backbone's parameters that are trained.
        follows_train_mode (bool): Whether the plain backbone follows ``train()``; otherwise it stays in eval mode.
        tapped_paths (dict[str, str]): Key in :attr:`added` -> path of the frozen module that the added module belongs
            to.
        weight_users (dict[str, str]): Path of a linear layer -> path of the module that uses its weight directly and
            never calls the layer (:meth:`tap_weight_use`).
        settings (dict): The tuning's name and all its arguments, set by
            :func:`~protuning_mm.tunings.build.build_tunings`.
        efficient (bool): Whether the added modules may run as memory-efficient autograd nodes.
    """

    child: ClassVar[str] = 'added'
    identity_at_init: ClassVar[bool] = True
    combines: ClassVar[bool] = True
    recomputable: ClassVar[bool] = True
    follows_train_mode: ClassVar[bool] = False
    passes_to: ClassVar[type[nn.Module] | None] = None

    def __init__(self) -> None:
        self.trained: frozenset[str] = frozenset()
        self.added: nn.ModuleDict | nn.ModuleList | None = None
        self.tapped_paths: dict[str, str] = {}
        self.weight_users: dict[str, str] = {}
        self.settings: dict[str, Any] = {}
        self.efficient = True

    @property
    def name(self) -> str:
        """The name by which configs refer to the tuning."""
        return next((name for name, cls in TUNINGS.module_dict.items() if cls is type(self)), type(self).__name__)

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        """Select the trained parameters (:attr:`trained`) and create the added modules (:attr:`added`, :meth:`tap`).

        Args:
            backbone (nn.Module): The plain backbone.
            stages (Stages): The backbone's stages, up to its last output.

        Raises:
            TuningError: the tuning does not fit this backbone.
        """

    def after_stage(self, i: int, x: Tensor) -> Tensor:
        """Return the input of the next stage, given the feature map of stage ``i``.

        Args:
            i (int): Index of the stage.
            x (Tensor): (N, C_i, H_i, W_i), the stage's feature map.

        Returns:
            Tensor: (N, C_i, H_i, W_i).
        """
        return x

    def acts_after_stage(self, i: int) -> bool:
        """Return whether :meth:`after_stage` may change the feature map of stage ``i``.

        The return value is only a hint for planning how several tasks are run together. :meth:`after_stage` is called
        even if this method returns False, and its result is used. A wrong return value therefore makes runs slower but
        changes no output.
        """
        return type(self).after_stage is not Tuning.after_stage

    def after_forward(self, image: Tensor, outs: Any) -> Any:
        """Return the outputs of the tuned backbone.

        Args:
            image (Tensor): (N, 3, H, W).
            outs (Any): Outputs of the plain backbone's forward.
        """
        return outs

    def init_weights(self) -> None:
        """Initialize the added modules; called after the backbone's weights were loaded."""
        parts: list[Any] = [] if self.added is None else list(self.added.modules())
        for part in parts:
            if hasattr(part, 'init_weights'):
                part.init_weights()

    def merge(self, backbone: nn.Module) -> None:
        """Merge the added modules into the weights of ``backbone``, so that it computes the same outputs without them.

        A tuning that adds nothing has nothing to merge.

        Raises:
            TuningError: the added modules cannot be merged.
        """
        if self.added is not None:
            raise TuningError(
                f'{self.name} cannot be merged: its added modules cannot be expressed as a change of the frozen weights'
            )

    def tap(self, backbone: nn.Module, path: str, added: nn.Module) -> None:
        """Replace the output y of the frozen module at ``path`` with ``added(x, y)``, where x is the module's input.

        The state dict keys of ``added`` begin with ``<child>.<path>``, with the dots of the path replaced by
        underscores.
        """
        if self.added is None:
            self.added = nn.ModuleDict()
        key = path.replace('.', '_')
        assert isinstance(self.added, nn.ModuleDict) and key not in self.added
        self.added[key] = added
        self.tapped_paths[key] = path
        backbone.get_submodule(path).register_forward_hook(Tap(added), with_kwargs=True)

    def tap_weight_use(self, backbone: nn.Module, path: str, user: str) -> None:
        """Handle a module that uses a linear layer's weight without calling the layer.

        Some attention modules compute ``F.linear(x, layer.weight)`` themselves. The layer's hooks then do not run.
        After this call, the module that :meth:`tap` added to the layer also acts on the result of this direct
        ``F.linear``. Call :meth:`tap` first.

        Args:
            backbone (nn.Module): The plain backbone.
            path (str): Path of the linear layer.
            user (str): Path of the module that uses the layer's weight directly.
        """
        assert isinstance(self.added, nn.ModuleDict)
        key = path.replace('.', '_')
        mode = WeightProductMode(backbone.get_submodule(path), self.added[key])
        module = backbone.get_submodule(user)
        module.register_forward_pre_hook(mode.enter)
        module.register_forward_hook(mode.leave, always_call=True)
        self.weight_users[path] = user

    def tapped(self, backbone: nn.Module) -> list[tuple[Any, Any]]:
        """Return pairs of a frozen module of ``backbone`` and the module added to it."""
        assert isinstance(self.added, nn.ModuleDict)
        return [(backbone.get_submodule(self.tapped_paths[key]), added) for key, added in self.added.items()]
