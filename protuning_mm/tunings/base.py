"""What a tuning is: what it trains of the backbone, and what it adds."""

from typing import Any, ClassVar

from torch import Tensor, nn

from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.reads import Reads


class TuningError(ValueError):
    """A tuning does not fit the backbone, or another tuning, or what is asked of it."""


class Tap:
    """A forward hook that hands a frozen module's input and output to an added one, whose result takes its place."""

    def __init__(self, added: nn.Module) -> None:
        self.added = added

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        x = args[0] if args else next(iter(kwargs.values()))
        if isinstance(output, tuple):
            return (self.added(x, output[0]), *output[1:])
        return self.added(x, output)


class Tuning:
    """A way to adapt a pre-trained backbone. The defaults are linear probing: nothing is trained, nothing is added.

    A tuning is written by overriding some of :meth:`setup`, :meth:`after_stage`, :meth:`after_forward`,
    :meth:`init_weights` and :meth:`merge`. It holds settings and references into one backbone; a deep copy of
    that backbone holds its own.

    Attributes:
        child (str): The backbone's child that holds what is added; its keys begin with this name.
        identity_at_init (bool): Whether the initialized tuning leaves the plain backbone's outputs unchanged.
        combines (bool): Whether it may stand in a list with others.
        passes_to (type, optional): The block that takes the arguments which the tuning itself does not name.
        trained (frozenset[str]): The plain backbone's own parameters that are trained, by their keys.
        trains_mode (bool): Whether the backbone follows ``train()``; otherwise it stays in eval mode.
        readers (dict[str, str]): For layers whose weights another module reads instead of calling them: that module's
            path by the layer's (:meth:`tap_reads`).
        settings (dict): Its name and all its arguments, as :func:`~protuning_mm.tunings.build.build_tunings` fills in.
        efficient (bool): Whether what is added may run on a graph of its own that keeps less than torch's.
    """

    child: ClassVar[str] = 'added'
    identity_at_init: ClassVar[bool] = True
    combines: ClassVar[bool] = True
    trains_mode: ClassVar[bool] = False
    passes_to: ClassVar[type[nn.Module] | None] = None

    def __init__(self) -> None:
        self.trained: frozenset[str] = frozenset()
        self.added: nn.ModuleDict | nn.ModuleList | None = None
        self._tapped: dict[str, str] = {}
        self.readers: dict[str, str] = {}
        self.settings: dict[str, Any] = {}
        self.efficient = True

    @property
    def name(self) -> str:
        """The name that configs use."""
        return next((name for name, cls in TUNINGS.module_dict.items() if cls is type(self)), type(self).__name__)

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        """Choose what is trained (:attr:`trained`) and make what is added (:attr:`added`, :meth:`tap`).

        Args:
            backbone (nn.Module): The plain backbone.
            stages (Stages): How it is read, up to its last output.

        Raises:
            TuningError: the tuning does not fit this backbone.
        """

    def after_stage(self, i: int, x: Tensor) -> Tensor:
        """What feeds the next stage, given stage ``i``'s feature (N, C_i, H_i, W_i)."""
        return x

    def after_forward(self, image: Tensor, outs: Any) -> Any:
        """What the backbone returns, given the image (N, 3, H, W) and what the plain forward returned."""
        return outs

    def init_weights(self) -> None:
        """Give what is added its initial values; runs after the backbone was filled."""
        parts: list[Any] = [] if self.added is None else list(self.added.modules())
        for part in parts:
            if hasattr(part, 'init_weights'):
                part.init_weights()

    def merge(self, backbone: nn.Module) -> None:
        """Fold what is added into ``backbone``'s own tensors, so that it computes the same without it.

        Where nothing is added there is nothing to fold.

        Raises:
            TuningError: it cannot be folded.
        """
        if self.added is not None:
            raise TuningError(f'{self.name} cannot be merged: what it adds is no change of the frozen weights')

    def tap(self, backbone: nn.Module, path: str, added: nn.Module) -> None:
        """Let ``added(x, y)`` replace the output y of the frozen module at ``path``, whose input is x.

        The module's keys begin with ``<child>.<path with underscores>``.
        """
        if self.added is None:
            self.added = nn.ModuleDict()
        key = path.replace('.', '_')
        assert isinstance(self.added, nn.ModuleDict) and key not in self.added
        self.added[key] = added
        self._tapped[key] = path
        backbone.get_submodule(path).register_forward_hook(Tap(added), with_kwargs=True)

    def tap_reads(self, backbone: nn.Module, path: str, reader: str) -> None:
        """Let what was added to the linear layer at ``path`` act where ``reader`` multiplies by that layer's weight."""
        assert isinstance(self.added, nn.ModuleDict)
        key = path.replace('.', '_')
        reads = Reads(backbone.get_submodule(path), self.added[key])
        module = backbone.get_submodule(reader)
        module.register_forward_pre_hook(reads.enter)
        module.register_forward_hook(reads.leave, always_call=True)
        self.readers[path] = reader

    @property
    def tapped_paths(self) -> dict[str, str]:
        """Paths of the frozen modules that something was added to, by its key in :attr:`added`."""
        return self._tapped

    def tapped(self, backbone: nn.Module) -> list[tuple[Any, Any]]:
        """Pairs of a module of ``backbone`` and what was added to it."""
        assert isinstance(self.added, nn.ModuleDict)
        return [(backbone.get_submodule(self._tapped[key]), added) for key, added in self.added.items()]
