"""The stem and the stages of a frozen backbone as separate callables, to write the paper's loop over stages.

Training and inference use the host's own forward, not these callables.
"""

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any

from torch import Tensor, nn

from protuning_mm.stages import Stages
from protuning_mm.stages.layouts import Feature, Maps
from protuning_mm.stages.patch_grid import PatchGrid


class _View(nn.Module):
    """Shares the children of another module, so that paths such as ``stages.0.blocks`` lead to the same modules."""

    def __init__(self, parts: Sequence[nn.Module], tree: nn.Module | None) -> None:
        super().__init__()
        if tree is None:
            self._modules.update({str(i): part for i, part in enumerate(parts)})
        else:
            for table in ('_parameters', '_buffers', '_modules'):
                object.__setattr__(self, table, getattr(tree, table))
        shown = next(iter([*parts, tree]), None)
        self.training = shown is not None and shown.training


class FrozenStage(_View):
    """Computes a stage's feature from that of the previous stage, without the tunings applied at its end.

    Args:
        parts (Sequence[nn.Module]): The stage's modules in order.
        end (nn.Module): The module whose output is the stage's feature.
        layout (Maps): Layout of the feature.
        tree (nn.Module, optional): The host's module at ``stages.<i>``, if it has one.

    Shape:
        - Input: (N, C_{i-1}, H_{i-1}, W_{i-1}), for the first stage the stem's output; a
          :class:`~protuning_mm.stages.layouts.TokenMap` if there are prefix tokens
        - Output: (N, C_i, H_i, W_i), likewise
    """

    def __init__(self, parts: Sequence[nn.Module], end: nn.Module, layout: Maps, tree: nn.Module | None = None) -> None:
        super().__init__(parts, tree)
        # the tunings are hooks of the stage's last module, so its forward is called directly to bypass them
        self.calls: list[Callable[..., Any]] = [part.forward if part is end else part for part in parts]
        self.layout = layout

    def forward(self, x: Feature) -> Feature:
        return self.layout.run(self.calls, x)


def make_stages(plain: nn.Module, structure: Stages, tree: nn.Module | None) -> nn.ModuleList:
    """Make the stages of a backbone callable.

    Args:
        plain (nn.Module): The plain backbone.
        structure (Stages): Its stages.
        tree (nn.Module, optional): The host's child ``stages``, if it has one. If that has one child per stage, the
            i-th FrozenStage has the same children as the host's stages.i, so that paths such as stages.0.blocks keep
            working.

    Returns:
        ModuleList: One :class:`FrozenStage` per stage.
    """
    stages = structure.stages
    trees: list[Any] = list(tree.children()) if tree is not None else []
    if len(trees) != len(stages):
        trees = [None] * len(stages)
    return nn.ModuleList(
        FrozenStage(
            [plain.get_submodule(path) for path in stage.modules],
            plain.get_submodule(stage.end),
            structure.layout,
            shown,
        )
        for stage, shown in zip(stages, trees)
    )


class FrozenStem(_View):
    """Computes what the host's forward computes before its first stage.

    Args:
        run (Callable): Computes it; see :func:`run_stem`.
        tree (nn.Module, optional): The host's module at ``stem``, if it has one.

    Shape:
        - Input: (N, 3, H, W)
        - Output: (N, C, H', W'), the first stage's input
    """

    def __init__(self, run: Callable[[Tensor], Feature], tree: nn.Module | None = None) -> None:
        super().__init__([], tree)
        self.run = run

    def forward(self, image: Tensor) -> Feature:
        return self.run(image)


class _ReachedError(Exception):
    """The host's forward has reached the first stage; raised with the positional and keyword arguments of its call."""


def run_stem(
    forward: Callable[[Tensor], Any], first: nn.Module, image: Tensor, *, layout: Maps, grid: PatchGrid
) -> Feature:
    """Run the host's forward up to the first stage.

    Args:
        forward (Callable): The host's forward.
        first (nn.Module): The first module of the first stage.
        image (Tensor): (N, 3, H, W).
        layout (Maps): Layout of the features.
        grid (PatchGrid): The recorded grid of patches.

    Returns:
        Tensor: (N, C_0, H_0, W_0), the input of the first stage.
    """
    thread = get_ident()

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if get_ident() == thread:
            raise _ReachedError(args, kwargs)

    handle = first.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        forward(image)
    except _ReachedError as reached:
        args, kwargs = reached.args
        return layout.enter(args, kwargs, grid.now)
    finally:
        handle.remove()
    raise AssertionError("the host's forward does not call its first stage")
