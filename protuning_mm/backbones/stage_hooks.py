"""Forward hooks through which tunings change the features of stages."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from protuning_mm.stages.layouts import Maps, PrefixedTokens
from protuning_mm.stages.patch_grid import PatchGrid
from protuning_mm.stages.structure import Stages
from protuning_mm.tunings import Tuning

# the tables of nn.Module that hold forward hooks
_TABLES = (
    '_forward_hooks',
    '_forward_pre_hooks',
    '_forward_hooks_with_kwargs',
    '_forward_hooks_always_called',
    '_forward_pre_hooks_with_kwargs',
)


class StageEnd:
    """A forward hook of the last module of a stage, which passes the stage's feature through the tunings.

    Args:
        i (int): Index of the stage.
        layout (Maps): Layout of the stage's feature.
        grid (PatchGrid): The grid of patches.
        tunings (Sequence[Tuning]): The tunings to apply, in order.
    """

    def __init__(self, i: int, layout: Maps, grid: PatchGrid, tunings: Sequence[Tuning]) -> None:
        self.i = i
        self.layout = layout
        self.grid = grid
        self.tunings = tunings

    @property
    def acts(self) -> bool:
        """Whether a tuning is expected to change the feature of this stage."""
        return any(tuning.acts_after_stage(self.i) for tuning in self.tunings)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], feature: Tensor) -> Tensor:
        before = self.layout.to_map(feature, self.layout.grid(args, self.grid.now))  # (N, C_i, H_i, W_i)
        x = self.apply(before)
        return feature if x is before else self.layout.from_map(x, feature)

    def apply(self, x: Tensor) -> Tensor:
        """Pass the feature map (N, C_i, H_i, W_i) through the tunings."""
        for tuning in self.tunings:
            x = tuning.after_stage(self.i, x)
        return x


def hook_stages(plain: nn.Module, structure: Stages, tunings: Sequence[Tuning]) -> PatchGrid:
    """Register the hooks that apply tunings to the features of stages.

    Args:
        plain (nn.Module): The plain backbone.
        structure (Stages): The backbone's structure, up to its last output.
        tunings (Sequence[Tuning]): The tunings.

    Returns:
        PatchGrid: The grid of patches; it is registered as a hook of the patch embedding, if there is one.
    """
    layout, grid = structure.layout, PatchGrid()
    if isinstance(layout, PrefixedTokens):
        grid.size = layout.size
        plain.get_submodule(layout.embedding).register_forward_hook(grid)
    acting = [tuning for tuning in tunings if type(tuning).after_stage is not Tuning.after_stage]
    for i, stage in enumerate(structure.stages if acting else ()):
        of_stage = layout.last if i == len(structure.stages) - 1 else layout
        plain.get_submodule(stage.end).register_forward_hook(StageEnd(i, of_stage, grid, acting))
    return grid


def forward_hooks(module: nn.Module) -> set[tuple[str, str, int]]:
    """Return all forward hooks of a module and its submodules as (module path, table of hooks, key)."""
    return {
        (path, table, key) for path, part in module.named_modules() for table in _TABLES for key in getattr(part, table)
    }


def remove_hooks(module: nn.Module, hooks: set[tuple[str, str, int]]) -> None:
    """Remove hooks that :func:`forward_hooks` returned."""
    for path, table, key in hooks:
        del getattr(module.get_submodule(path), table)[key]
