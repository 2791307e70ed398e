"""A frozen backbone of which no output depends on a trained parameter, such as that of ``linear`` and ``ladder``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from protuning_mm.backbones.frozen_features import FrozenPart
from protuning_mm.backbones.stage_hooks import StageEnd


class FrozenOutputs(FrozenPart):
    """The whole frozen backbone: no output of it depends on a trained parameter.

    The features are the outputs, and the feature maps of stages that tunings read.

    Args:
        backbone (TunedBackbone): The backbone.
        image (Tensor): (N, 3, H, W).
    """

    def __init__(self, backbone: Any, image: Tensor) -> None:
        with _record_maps(backbone) as maps:
            leaves, self._structure = tree_flatten(backbone._run(image))
        self._stages = tuple(maps)
        named = [*((f'stage{i + 1}', x) for i, x in maps.items()), *((f'out{i}', x) for i, x in enumerate(leaves))]
        # an output that is a stage's feature map is stored once
        owners = [next(name for name, other in named if other is x) for _, x in named]
        self.names = tuple(dict.fromkeys(owners))
        self._positions = [self.names.index(owner) for owner in owners]

    def compute(self, backbone: Any, image: Tensor) -> list[Tensor]:
        with _record_maps(backbone) as maps:
            outs = backbone._run(image)
        found = [*maps.values(), *tree_flatten(outs)[0]]
        return [found[self._positions.index(i)].detach() for i in range(len(self.names))]

    def resume(self, backbone: Any, tensors: Sequence[Tensor]) -> Any:
        found = [tensors[i] for i in self._positions]
        for end in _stage_ends(backbone):
            end.apply(found[self._stages.index(end.i)])
        return tree_unflatten(found[len(self._stages) :], self._structure)

    def __str__(self) -> str:
        return 'the whole backbone'


class _Recorder:
    """Takes the place of tunings that read feature maps and change none."""

    def __init__(self, maps: dict[int, Tensor]) -> None:
        self.maps = maps

    def after_stage(self, i: int, x: Tensor) -> Tensor:
        self.maps[i] = x
        return x


@contextmanager
def _record_maps(backbone: Any) -> Iterator[dict[int, Tensor]]:
    """Record the feature maps that tunings would get, without the tunings."""
    maps: dict[int, Tensor] = {}
    ends = _stage_ends(backbone)
    tunings = [end.tunings for end in ends]
    try:
        for end in ends:
            end.tunings = [_Recorder(maps)]  # type: ignore[list-item]
        yield maps
    finally:
        for end, own in zip(ends, tunings):
            end.tunings = own


def _stage_ends(backbone: Any) -> list[StageEnd]:
    """Return the hooks that pass features to tunings, in order."""
    modules = (backbone.plain.get_submodule(stage.end) for stage in backbone.structure.stages)
    return [hook for module in modules for hook in module._forward_hooks.values() if isinstance(hook, StageEnd)]
