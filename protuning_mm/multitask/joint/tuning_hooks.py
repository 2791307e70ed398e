"""What tunings hooked to a backbone, and whether it can be done to a part of a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from protuning_mm.backbones import TunedBackbone


@dataclass(frozen=True)
class Hook:
    """A forward hook of a tuning.

    Args:
        call (Callable): The hook.
        with_kwargs (bool): Whether it is given the keyword arguments too.
    """

    call: Any
    with_kwargs: bool

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """What takes the output's place; the output itself where nothing does."""
        given = (module, args, kwargs, output) if self.with_kwargs else (module, args, output)
        result = self.call(*given)
        return output if result is None else result

    @property
    def only_watches(self) -> bool:
        """Whether it notes sizes alone and changes nothing: a layout's own."""
        return getattr(self.call, 'only_watches', False)


def hooks_of(backbone: TunedBackbone) -> dict[str, list[Hook]]:
    """Its tunings' forward hooks by module path, in the order in which they run."""
    found: dict[str, list[Hook]] = {}
    for path, table, key in sorted(backbone.hooked):
        if table == '_forward_hooks':
            module: Any = backbone.plain.get_submodule(path)
            found.setdefault(path, []).append(
                Hook(module._forward_hooks[key], key in module._forward_hooks_with_kwargs)
            )
    return found


def inside_blocks(backbone: TunedBackbone, hooks: Mapping[str, list[Hook]]) -> set[str]:
    """The paths of the blocks in which a hook stands; those at the end of a stage are not in it."""
    ends = {stage.end for stage in backbone.structure.stages}
    return {
        block.path
        for block in backbone.structure.blocks
        for path in hooks
        if path.startswith(f'{block.path}.') or (path == block.path and path not in ends)
    }


def runs_jointly(backbone: TunedBackbone) -> bool:
    """Whether the frozen network may run once for this and for others.

    Not where the network's own tensors are trained (``bias``, ``norm``, ``partial``, ``full``), nor where the input of
    its modules is changed (``vpt``: more tokens), nor where a hook stands neither in a block nor behind a stage.
    """
    if backbone.trained_keys or any(tuning.trains_mode for tuning in backbone.tunings):
        return False
    if any('pre_hooks' in table for _, table, _ in backbone.hooked):
        return False
    hooks = hooks_of(backbone)
    blocks = tuple(f'{block.path}.' for block in backbone.structure.blocks)
    known = {stage.end for stage in backbone.structure.stages} | {block.path for block in backbone.structure.blocks}
    return all(
        path in known or path.startswith(blocks) or all(hook.only_watches for hook in here)
        for path, here in hooks.items()
    )
