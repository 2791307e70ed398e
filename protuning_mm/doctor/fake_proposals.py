"""Fake proposals for the RoI heads of two-stage detectors, such as a trained RPN would make."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def find_proposal_samplers(model: nn.Module) -> list[Any]:
    """Return the samplers of a RoI head that take a fixed number of proposals; an empty list for other models."""
    found = getattr(getattr(model, 'roi_head', None), 'bbox_sampler', None)
    samplers = found if isinstance(found, list) else [found]
    return [sampler for sampler in samplers if isinstance(getattr(sampler, 'num', None), int)]


@contextmanager
def use_fake_proposals(model: nn.Module, share: float = 1.0) -> Iterator[None]:
    """Give the RoI head of a two-stage detector as many object and background proposals as its samplers take.

    The proposals of an untrained RPN overlap objects by chance, such as 28 times at one image size and 53 times at the
    next. A mask head gets only those proposals, so its memory would differ from its memory in training. Other models
    are left unchanged.

    Args:
        model (nn.Module): The model. Its RPN still computes its losses, but its proposals are replaced.
        share (float): Number of proposals to sample, as a fraction of the samplers' setting. Defaults to 1.
    """
    samplers = find_proposal_samplers(model)
    roi_head: Any = getattr(model, 'roi_head', None)
    if not samplers:
        yield
        return
    numbers = [sampler.num for sampler in samplers]
    limit = ((getattr(model, 'train_cfg', None) or {}).get('rpn_proposal') or {}).get('max_per_img', max(numbers))

    def loss(x: Any, proposals: Sequence[Any], samples: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        proposals = [_replace(found, sample, 2 * max(numbers)) for found, sample in zip(proposals, samples)]
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


def _replace(proposals: Any, sample: Any, number: int) -> Any:
    if set(proposals.keys()) != {'bboxes', 'scores', 'labels'} or proposals.bboxes.shape[-1] != 4:
        return proposals  # Sparse R-CNN learns its proposals, a fixed number, together with their features
    if not len(sample.gt_instances):
        return proposals
    boxes = make_proposals(sample.gt_instances.bboxes, sample.img_shape, number).to(proposals.bboxes)
    return type(proposals)(bboxes=boxes, scores=boxes.new_ones(len(boxes)), labels=boxes.new_zeros(len(boxes)).long())


def make_proposals(objects: Tensor, size: tuple[int, int], number: int) -> Tensor:
    """Make boxes of which one half overlaps objects and the other half is background.

    Relative to the image size, they are the same for every image size.

    Args:
        objects (Tensor): (N, 4), boxes of the objects.
        size (tuple[int, int]): Height and width of the image.
        number (int): Number of boxes to make.

    Returns:
        Tensor: (number, 4).
    """
    half, generator = number // 2, torch.Generator().manual_seed(0)
    near = objects.cpu()[torch.arange(half) % len(objects)]
    sides = (near[:, 2:] - near[:, :2]).repeat(1, 2)
    near = near + 0.04 * (torch.rand(half, 4, generator=generator) - 0.5) * sides
    # background: sides of 1/24 of the image are too small to be assigned to an object
    small = 23 / 24 * torch.rand(number - half, 2, generator=generator)
    small = torch.cat([small, small + 1 / 24], 1) * torch.tensor([size[1], size[0]] * 2)
    return torch.cat([near, small])
