"""How far a tuned backbone is frozen, found by one forward pass."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from protuning_mm.backbones.frozen_features import FrozenPart
from protuning_mm.backbones.frozen_outputs import FrozenOutputs
from protuning_mm.backbones.frozen_stages import FrozenStages, record_features
from protuning_mm.tunings import TuningError


def find_frozen_part(backbone: Any, image: Tensor) -> FrozenPart:
    """Find what a backbone computes before any trained parameter takes part.

    What the gradients reach in a forward pass decides, not the names of tunings.

    Args:
        backbone (TunedBackbone): The backbone.
        image (Tensor): (N, 3, H, W).

    Raises:
        TuningError: the end of the first stage depends on trained parameters already, frozen modules are in training
            mode, or the stages do not run one after the other.
    """
    names = ' and '.join(tuning.name for tuning in backbone.tunings)
    training = next((path for path, module in _plain_modules(backbone) if module.training), None)
    if training is not None:
        raise TuningError(
            f'{names}: {training or "the backbone"} is in training mode, so its features change from step to step '
            'and cannot be stored'
        )
    stages = backbone.structure.up_to_last_out().stages
    ends = {i: stage.end for i, stage in enumerate(stages)}
    with torch.enable_grad(), record_features(backbone.plain, ends) as features:
        outs = backbone._run(image)
        backbone.finish(image, outs)
    if not any(isinstance(out, Tensor) and out.requires_grad for out in tree_leaves(outs)):
        return FrozenOutputs(backbone, image)
    last = next((i for i in ends if i not in features or features[i].requires_grad), len(ends)) - 1
    if last < 0:
        raise TuningError(
            f'{names}: trained parameters take part before the end of the first stage, so no feature of the backbone '
            "stays as it is. Features can be stored with the tunings 'linear', 'ladder' and 'partial', and with 'pro' "
            f'whose prompts begin late, such as prompt_stages=({len(stages) - 1},)'
        )
    return FrozenStages(backbone, image, last)


def _plain_modules(backbone: Any) -> Iterator[tuple[str, nn.Module]]:
    added = backbone.added_children
    return (item for item in backbone.plain.named_modules() if item[0].partition('.')[0] not in added)
