"""Proposals as a region proposal network gives them that has learnt."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def samplers_of(model: nn.Module) -> list[Any]:
    """List the samplers of a two-stage detector's RoI head that take a number of proposals; none of other models."""
    found = getattr(getattr(model, 'roi_head', None), 'bbox_sampler', None)
    samplers = found if isinstance(found, list) else [found]
    return [sampler for sampler in samplers if isinstance(getattr(sampler, 'num', None), int)]


@contextmanager
def learnt_proposals(model: nn.Module, share: float = 1.0) -> Iterator[None]:
    """Let a two-stage detector's RoI head have as many objects and as much background as its samplers take.

    What a RPN proposes that has learnt nothing meets an object by chance, 28 times at one size and 53 at the next. A
    mask head sees those alone: its memory would say nothing of a training. Other models stay as they are.

    Args:
        model (nn.Module): Its RPN runs and learns as ever; what it proposes is left out.
        share (float): The samplers take this part of their number. Defaults to all.
    """
    samplers = samplers_of(model)
    roi_head: Any = getattr(model, 'roi_head', None)
    if not samplers:
        yield
        return
    numbers = [sampler.num for sampler in samplers]
    limit = ((getattr(model, 'train_cfg', None) or {}).get('rpn_proposal') or {}).get('max_per_img', max(numbers))

    def loss(x: Any, proposals: Sequence[Any], samples: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        proposals = [_learnt(found, sample, 2 * max(numbers)) for found, sample in zip(proposals, samples)]
        return type(roi_head).loss(roi_head, x, proposals, samples, *args, **kwargs)

    roi_head.loss = loss
    for sampler, number in zip(samplers, numbers):
        sampler.num = round(min(number, limit) * share)
    try:
        yield
    finally:
        del roi_head.loss
        for sampler, number in zip(samplers, numbers):
            sampler.num = number


def _learnt(found: Any, sample: Any, number: int) -> Any:
    if set(found.keys()) != {'bboxes', 'scores', 'labels'} or found.bboxes.shape[-1] != 4:
        return found  # Sparse R-CNN's are learnt with their features, and always as many
    if not len(sample.gt_instances):
        return found
    boxes = proposed_boxes(sample.gt_instances.bboxes, sample.img_shape, number).to(found.bboxes)
    return type(found)(bboxes=boxes, scores=boxes.new_ones(len(boxes)), labels=boxes.new_zeros(len(boxes)).long())


def proposed_boxes(objects: Tensor, size: tuple[int, int], number: int) -> Tensor:
    """Boxes that nearly are an object's, and as many small ones: the same at every size of image, but for its scale.

    Args:
        objects (Tensor): (N, 4), the objects' boxes.
        size (tuple[int, int]): Height and width of the image.
        number (int): How many in all.

    Returns:
        Tensor: (number, 4).
    """
    half, generator = number // 2, torch.Generator().manual_seed(0)
    near = objects.cpu()[torch.arange(half) % len(objects)]
    sides = (near[:, 2:] - near[:, :2]).repeat(1, 2)
    near = near + 0.04 * (torch.rand(half, 4, generator=generator) - 0.5) * sides
    # a 24th of the image: too small to be taken for one of the objects
    small = 23 / 24 * torch.rand(number - half, 2, generator=generator)
    small = torch.cat([small, small + 1 / 24], 1) * torch.tensor([size[1], size[0]] * 2)
    return torch.cat([near, small])
