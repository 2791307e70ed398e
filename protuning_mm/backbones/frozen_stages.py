"""The first stages of a backbone, up to the last feature map that no trained parameter changes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.backbones.frozen_features import FrozenPart
from protuning_mm.backbones.skipped_modules import Blank, record_outputs, skip_modules
from protuning_mm.tunings import TuningError


class FrozenStages(FrozenPart):
    """The first stages of a frozen backbone, up to one whose feature map is the last without trained parameters.

    The rest runs in the host's own forward, in which the modules of these stages, and those before them, are skipped.

    Args:
        backbone (TunedBackbone): The backbone.
        image (Tensor): (N, 3, H, W).
        last (int): Index of the last frozen stage.

    Raises:
        TuningError: the stages do not run one after the other.
    """

    def __init__(self, backbone: Any, image: Tensor, last: int) -> None:
        structure = backbone.structure
        self.last, self.number = last, len(structure.up_to_last_out().stages)
        kept = sorted({i for i in structure.outs if i < last} | {last})
        self.ends = {i: structure.stages[i].end for i in kept}
        self.names = tuple(f'stage{i + 1}' for i in kept)
        self._image = Blank(image.dtype, tuple(image.shape), len(image))
        modules = [path for stage in structure.stages[: last + 1] for path in stage.modules]
        with torch.no_grad():
            self._outputs = record_outputs(backbone.plain, backbone._run, image, modules, backbone.added_children)
        missing = next((path for path in modules if path not in self._outputs), None)
        if missing is not None or not structure.in_sequence:
            where = f': {missing!r} does not run exactly once' if missing else ''
            raise TuningError(
                f'the stages of this {type(backbone.plain).__name__} do not run one after the other{where}. Its '
                "features can be stored with the tunings 'linear' and 'ladder' alone"
            )

    def compute(self, backbone: Any, image: Tensor) -> list[Tensor]:
        with record_features(backbone.plain, self.ends) as features:
            backbone(image)
        return [features[i].detach() for i in self.ends]

    def resume(self, backbone: Any, tensors: Sequence[Tensor]) -> Any:
        images, device = len(tensors[0]), tensors[0].device
        given = dict(zip(self.ends.values(), tensors))
        with skip_modules(backbone.plain, self._outputs, given, images, device):
            return backbone._run(self._image.fill(images, device))

    def __str__(self) -> str:
        return f'the first {self.last + 1} of {self.number} stages of the backbone'


@contextmanager
def record_features(plain: nn.Module, ends: Mapping[int, str]) -> Iterator[dict[int, Tensor]]:
    """Record the feature of each stage in a forward pass, before the tunings change it.

    Args:
        plain (nn.Module): The plain backbone.
        ends (Mapping[int, str]): Stage index -> path of the module whose output is the stage's feature.

    Returns:
        dict: Filled with the feature of each stage that runs.
    """
    features: dict[int, Tensor] = {}

    def keep(i: int, module: nn.Module, args: Any, feature: Tensor) -> None:
        features[i] = feature.clone()  # the next stage may overwrite it

    with ExitStack() as hooks:
        for i, end in ends.items():
            handle = plain.get_submodule(end).register_forward_hook(partial(keep, i), prepend=True)
            hooks.callback(handle.remove)
        yield features
