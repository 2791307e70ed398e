"""Measures what tunings change in the feature maps at the ends of the stages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from protuning_lab.pictures.figures import PictureError
from protuning_mm.backbones import TunedBackbone
from protuning_mm.tunings import ProTuning, Tuning

Map = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Change:
    """What one tuning adds to the feature map x of one stage: x + p feeds the next stage.

    Args:
        stage (int): Index of the stage, from 0.
        tuning (str): The tuning's name.
        feature (Tensor): x, (1, C, H, W). Tokens are arranged as the grid of their patches.
        prompt (Tensor): p, (1, C, H, W). For Pro-Tuning this is the prompt P(x).
    """

    stage: int
    tuning: str
    feature: Tensor
    prompt: Tensor


@dataclass(frozen=True)
class StageMaps:
    """The norms of a change, as a figure shows them.

    Args:
        stage (int): Index of the stage, from 0.
        tuning (str): The tuning's name.
        channels (int): Number of channels, C.
        prompt (ndarray): (H, W), the norm of p over the channels at each position.
        before (ndarray): (H, W), the norm of x.
        after (ndarray): (H, W), the norm of x + p.
        ratio (float): The norm of the whole p divided by the norm of the whole x. NaN if x is zero.
    """

    stage: int
    tuning: str
    channels: int
    prompt: Map
    before: Map
    after: Map
    ratio: float


def get_tuned_backbone(model: nn.Module) -> TunedBackbone:
    """Return a model's tuned backbone.

    Raises:
        PictureError: the backbone has no tuning, or no tuning changes the feature map at the end of a stage.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, TunedBackbone):
        raise PictureError(
            f'model.backbone is a {type(backbone).__name__} without a tuning, so nothing is added to its features: it '
            'must be a protuning_mm.ProTunedResNet or TunedBackbone'
        )
    if not any(_changes_stage_output(tuning) for tuning in backbone.tunings):
        names = ', '.join(tuning.name for tuning in backbone.tunings) or 'none'
        raise PictureError(
            f'model.backbone.tuning is {names}, which changes no feature map at the end of a stage, so there is '
            "nothing to draw: use 'pro' with prompt_stages that are not empty, or a tuning that defines after_stage"
        )
    return backbone


def record_changes(backbone: TunedBackbone, image: Tensor) -> list[Change]:
    """Run a backbone once and record what its tunings change at the ends of its stages.

    Args:
        backbone (TunedBackbone): In eval mode.
        image (Tensor): (1, 3, H, W), normalised.

    Returns:
        list[Change]: The changes, in the order in which they happen.
    """
    with torch.no_grad(), _record(backbone.tunings) as recorded:
        backbone(image)
    return recorded


def measure_change(change: Change) -> StageMaps:
    """Compute the norms and the ratio of a change in double precision.

    Raises:
        PictureError: a value is infinite or NaN.
    """
    x, p = change.feature.double(), change.prompt.double()
    for what, tensor in (('the feature map', x), ('the prompt', p)):
        if not bool(tensor.isfinite().all()):
            raise PictureError(f'stage {change.stage + 1}, {change.tuning}: {what} has values that are not finite')
    prompt, before, after = (torch.linalg.vector_norm(t[0], dim=0).cpu().numpy() for t in (p, x, x + p))
    size = float(np.sqrt((before**2).sum()))
    ratio = float(np.sqrt((prompt**2).sum())) / size if size else float('nan')
    return StageMaps(change.stage, change.tuning, x.shape[1], prompt, before, after, ratio)


@contextmanager
def _record(tunings: Sequence[Tuning]) -> Iterator[list[Change]]:
    """Record what the tunings change, while the body runs.

    A prompt block with a forward hook runs in plain torch, so that P(x) exists as a tensor.
    """
    recorded: list[Change] = []
    handles, replaced = [], []
    try:
        for tuning in filter(_changes_stage_output, tunings):
            if isinstance(tuning, ProTuning):
                for i in tuning.prompt_stages or ():
                    handles.append(tuning.prompts[i].register_forward_hook(_PromptRecorder(recorded, i, tuning.name)))
            else:
                tuning.after_stage = _DifferenceRecorder(recorded, tuning)  # type: ignore[method-assign]
                replaced.append(tuning)
        yield recorded
    finally:
        for handle in handles:
            handle.remove()
        for tuning in replaced:
            del tuning.after_stage


def _changes_stage_output(tuning: Tuning) -> bool:
    if isinstance(tuning, ProTuning):
        return bool(tuning.prompt_stages)
    return type(tuning).after_stage is not Tuning.after_stage


class _PromptRecorder:
    """Forward hook of a prompt block that records its input and output."""

    def __init__(self, recorded: list[Change], stage: int, name: str) -> None:
        self.recorded, self.stage, self.name = recorded, stage, name

    def __call__(self, block: nn.Module, args: tuple[Any, ...], prompt: Tensor) -> None:
        self.recorded.append(Change(self.stage, self.name, args[0].detach().clone(), prompt.detach().clone()))


class _DifferenceRecorder:
    """Replaces a tuning's ``after_stage``: calls it and records the difference that it makes."""

    def __init__(self, recorded: list[Change], tuning: Tuning) -> None:
        self.recorded, self.name, self.after_stage = recorded, tuning.name, tuning.after_stage

    def __call__(self, i: int, x: Tensor) -> Tensor:
        before = x.detach().clone()
        after = self.after_stage(i, x)
        if not torch.equal(after, before):
            self.recorded.append(Change(i, self.name, before, after.detach() - before))
        return after
