"""The forward hooks through which tunings change a backbone, and where they act."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from protuning_mm.backbones import TunedBackbone


@dataclass(frozen=True)
class TuningHook:
    """A forward hook of a tuning.

    Args:
        function (Callable): The hook.
        with_kwargs (bool): Whether it takes the module's keyword arguments.
    """

    function: Any
    with_kwargs: bool

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Return the output that replaces ``output``; ``output`` itself if the hook changes nothing."""
        given = (module, args, kwargs, output) if self.with_kwargs else (module, args, output)
        result = self.function(*given)
        return output if result is None else result

    @property
    def only_watches(self) -> bool:
        """Whether the hook only records sizes."""
        return getattr(self.function, 'only_watches', False)

    @property
    def acts(self) -> bool:
        """Whether the hook is expected to change the output; a hook at the end of a stage may leave it unchanged."""
        return not self.only_watches and getattr(self.function, 'acts', True)


HooksByPath = Mapping[str, list[TuningHook]]


def find_tuning_hooks(backbone: TunedBackbone) -> dict[str, list[TuningHook]]:
    """Return the forward hooks of a backbone's tunings by module path, in the order in which they run."""
    found: dict[str, list[TuningHook]] = {}
    for path, table, key in sorted(backbone.hooked):
        if table == '_forward_hooks':
            module: Any = backbone.plain.get_submodule(path)
            found.setdefault(path, []).append(
                TuningHook(module._forward_hooks[key], key in module._forward_hooks_with_kwargs)
            )
    return found


def find_hooked_blocks(backbone: TunedBackbone, hooks: HooksByPath) -> set[str]:
    """Return the paths of the blocks that contain a hook; a hook at the end of a stage comes after its block."""
    ends = {stage.end for stage in backbone.structure.stages}
    return {
        block.path
        for block in backbone.structure.blocks
        for path in hooks
        if path.startswith(f'{block.path}.') or (path == block.path and path not in ends)
    }


def count_unchanged_blocks(backbone: TunedBackbone) -> int | None:
    """Return how many blocks of the frozen network run before a tuning changes a feature map; None if none changes one.

    For timm models it is 0 or None, because they take each task's own rows from the image on.
    """
    hooks = {path: here for path, here in find_tuning_hooks(backbone).items() if any(hook.acts for hook in here)}
    if hooks and backbone.structure.run is not None:
        return 0
    hooked_blocks, count = find_hooked_blocks(backbone, hooks), 0
    for stage in backbone.structure.stages:
        for block in stage.blocks:
            if block.path in hooked_blocks:
                return count
            count += 1
        if stage.end in hooks:
            return count
    return None


def can_run_jointly(backbone: TunedBackbone) -> bool:
    """Return whether the frozen network can run once for this backbone and for others.

    It cannot if tensors of the network itself are trained (``bias``, ``norm``, ``partial``, ``full``), if a tuning
    changes the input of a module (``vpt`` adds tokens), or if a hook is neither in a block nor at the end of a stage.
    """
    if backbone.trained_keys or any(tuning.follows_train_mode for tuning in backbone.tunings):
        return False
    if any('pre_hooks' in table for _, table, _ in backbone.hooked):
        return False
    blocks = [block.path for block in backbone.structure.blocks]
    known = {stage.end for stage in backbone.structure.stages} | set(blocks)
    inside = tuple(f'{path}.' for path in blocks)
    return all(
        path in known or path.startswith(inside) or all(hook.only_watches for hook in here)
        for path, here in find_tuning_hooks(backbone).items()
    )
