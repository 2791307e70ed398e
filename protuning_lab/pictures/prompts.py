"""What the tunings change at the ends of the stages, in numbers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from protuning_lab.pictures.canvas import PictureError
from protuning_mm.backbones import TunedBackbone
from protuning_mm.tunings import ProTuning, Tuning

Map = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Change:
    """What one tuning does to the feature x of one stage: x + p feeds the next stage.

    Args:
        stage (int): The stage, from 0.
        tuning (str): The tuning's name.
        feature (Tensor): x, (1, C, H, W); tokens as the map that they lie on.
        prompt (Tensor): p, of the same shape; of Pro-Tuning the prompt P(x).
    """

    stage: int
    tuning: str
    feature: Tensor
    prompt: Tensor


@dataclass(frozen=True)
class StageMaps:
    """What a picture shows of a change.

    Args:
        stage (int): The stage, from 0.
        tuning (str): The tuning's name.
        channels (int): C.
        prompt (ndarray): (H, W), the norm of p over the channels at each place.
        before (ndarray): (H, W), the same of x.
        after (ndarray): (H, W), the same of x + p.
        ratio (float): The norm of all of p by the norm of all of x.
    """

    stage: int
    tuning: str
    channels: int
    prompt: Map
    before: Map
    after: Map
    ratio: float


def tuned_backbone(model: nn.Module) -> TunedBackbone:
    """A model's tuned backbone, if something of it acts where a stage ends.

    Raises:
        PictureError: there is none, or nothing acts there; says what there is.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, TunedBackbone):
        raise PictureError(
            f'model.backbone is a {type(backbone).__name__} without a tuning, so nothing is added to its features: it '
            'must be a protuning_mm.ProTunedResNet or TunedBackbone'
        )
    if not any(_acts(tuning) for tuning in backbone.tunings):
        names = ', '.join(tuning.name for tuning in backbone.tunings) or 'none'
        raise PictureError(
            f'model.backbone.tuning is {names}, which makes no prompts and changes no feature at the end of a stage: '
            "there is nothing to draw. 'pro' does (with prompt_stages that are not empty), and so does every tuning "
            'that defines after_stage'
        )
    return backbone


def changes(backbone: TunedBackbone, image: Tensor) -> list[Change]:
    """Run a backbone once and look at the ends of its stages.

    Args:
        backbone (TunedBackbone): In eval mode.
        image (Tensor): (1, 3, H, W), as the model takes it.

    Returns:
        list[Change]: In the order in which they happen.
    """
    with torch.no_grad(), _watched(backbone.tunings) as seen:
        backbone(image)
    return seen


def measure(change: Change) -> StageMaps:
    """Norms and ratio of a change, in double precision.

    Raises:
        PictureError: a value is infinite or not a number.
    """
    x, p = change.feature.double(), change.prompt.double()
    for what, tensor in (('the feature', x), ('what is added to it', p)):
        if not bool(tensor.isfinite().all()):
            raise PictureError(f'stage {change.stage + 1}, {change.tuning}: {what} has values that are not finite')
    prompt, before, after = (torch.linalg.vector_norm(t[0], dim=0).cpu().numpy() for t in (p, x, x + p))
    size = float(np.sqrt((before**2).sum()))
    ratio = float(np.sqrt((prompt**2).sum())) / size if size else float('nan')
    return StageMaps(change.stage, change.tuning, x.shape[1], prompt, before, after, ratio)


@contextmanager
def _watched(tunings: Sequence[Tuning]) -> Iterator[list[Change]]:
    """Note what the tunings do. A prompt block that is hooked runs plainly, and its P(x) is a tensor that is there."""
    seen: list[Change] = []
    handles, replaced = [], []
    try:
        for tuning in filter(_acts, tunings):
            if isinstance(tuning, ProTuning):
                for i in tuning.prompt_stages or ():
                    handles.append(tuning.prompts[i].register_forward_hook(_Prompted(seen, i, tuning.name)))
            else:
                tuning.after_stage = _Compared(seen, tuning)  # type: ignore[method-assign]
                replaced.append(tuning)
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        for tuning in replaced:
            del tuning.after_stage


def _acts(tuning: Tuning) -> bool:
    if isinstance(tuning, ProTuning):
        return bool(tuning.prompt_stages)
    return type(tuning).after_stage is not Tuning.after_stage


class _Prompted:
    """A forward hook of a prompt block."""

    def __init__(self, seen: list[Change], stage: int, name: str) -> None:
        self.seen, self.stage, self.name = seen, stage, name

    def __call__(self, block: nn.Module, args: tuple[Any, ...], prompt: Tensor) -> None:
        self.seen.append(Change(self.stage, self.name, args[0].detach().clone(), prompt.detach().clone()))


class _Compared:
    """In the place of a tuning's own ``after_stage``: calls it, and notes the difference that it makes."""

    def __init__(self, seen: list[Change], tuning: Tuning) -> None:
        self.seen, self.name, self.after_stage = seen, tuning.name, tuning.after_stage

    def __call__(self, i: int, x: Tensor) -> Tensor:
        before = x.detach().clone()
        after = self.after_stage(i, x)
        if not torch.equal(after, before):
            self.seen.append(Change(i, self.name, before, after.detach() - before))
        return after
