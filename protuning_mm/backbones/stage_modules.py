"""The stem and the stages of a frozen backbone as callables, for the loop of the paper.

The host's own forward is what trains and serves. Here are its parts, one by one.
"""

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any

from torch import Tensor, nn

from protuning_mm.backbones.stage_hooks import PatchGrid
from protuning_mm.stages.layouts import Feature, Maps


class FrozenStage(nn.Module):
    """One stage: from the feature of the stage before to its own, without what a tuning does at its end.

    Args:
        modules (Sequence[nn.Module]): The stage's modules in order.
        end (nn.Module): The one whose output is the stage's feature.
        layout (Maps): The feature's layout.

    Shape:
        - Input: (N, C_{i-1}, H_{i-1}, W_{i-1}), a :class:`~protuning_mm.stages.layouts.TokenMap` where there are
          prefix tokens
        - Output: (N, C_i, H_i, W_i), likewise
    """

    def __init__(self, modules: Sequence[nn.Module], end: nn.Module, layout: Maps) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.end = [modules.index(end)] if end in modules else []
        self.layout = layout

    def forward(self, x: Feature) -> Feature:
        # the tunings' hooks are at the end of the stage: its forward is called without them
        calls: list[Callable[..., Any]] = [part.forward if i in self.end else part for i, part in enumerate(self.parts)]
        return self.layout.run(calls, x)


class _ReachedError(Exception):
    """The host's forward has reached the first stage."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.args_of_stage = args
        self.kwargs_of_stage = kwargs


def run_stem(
    forward: Callable[[Tensor], Any], first: nn.Module, image: Tensor, layout: Maps, grid: PatchGrid
) -> Feature:
    """Run the host's forward up to the first stage.

    Args:
        forward (Callable): The host's forward.
        first (nn.Module): The first module of the first stage.
        image (Tensor): (N, 3, H, W).
        layout (Maps): The layout of features.
        grid (PatchGrid): Where the size of the grid of patches is noted.

    Returns:
        Tensor: (N, C_0, H_0, W_0), what the first stage is called with.
    """
    thread = get_ident()

    def stop(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if get_ident() == thread:
            raise _ReachedError(args, kwargs)

    handle = first.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        forward(image)
    except _ReachedError as reached:
        return layout.enter(reached.args_of_stage, reached.kwargs_of_stage, grid.now)
    finally:
        handle.remove()
    raise AssertionError("the host's forward does not call its first stage")
