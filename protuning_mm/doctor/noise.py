"""A batch of noise with made-up annotations, as the hosts' models take them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from protuning_mm.engine.faked_predictions import predicts_masks

Batch = tuple[Tensor, list[Any]]


def noise_batch(model: nn.Module, images: int, size: tuple[int, int], device: str = 'cpu') -> Batch:
    """Make inputs and data samples for ``model(inputs, samples, mode='loss')``; the data preprocessor is passed by.

    Args:
        model (nn.Module): A detector, segmentor or classifier of the hosts.
        images (int): How many.
        size (tuple[int, int]): Height and width.
        device (str): Where the tensors are.

    Raises:
        TypeError: the model is none of the three.
    """
    kinds = {f'{cls.__module__.split(".")[0]}.{cls.__name__}' for cls in type(model).__mro__}
    if 'mmdet.BaseDetector' in kinds:
        make: Any = _detection
    elif 'mmseg.BaseSegmentor' in kinds:
        make = _segmentation
    elif 'mmpretrain.BaseClassifier' in kinds:
        make = _classification
    else:
        raise TypeError(f'{type(model).__name__} is no detector, segmentor or classifier of the hosts')
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(images, 3, *size, generator=generator)
    samples = [make(model, size, generator).to(device) for _ in range(images)]
    return inputs.to(device), samples


def _detection(model: nn.Module, size: tuple[int, int], generator: torch.Generator) -> Any:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData, PixelData

    h, w = size
    classes, stuff = _num_classes(model, 'bbox_head'), _num_classes(model, 'semantic_head')
    # from a twelfth of the image to the half of it
    extents = [(0.1, 0.1, 0.6, 0.6), (0.3, 0.2, 0.55, 0.5), (0.5, 0.5, 0.95, 0.9), (0.6, 0.1, 0.7, 0.2)]
    boxes = torch.tensor(extents) * torch.tensor([w, h, w, h])
    masks = np.zeros((len(boxes), h, w), np.uint8)
    for mask, box in zip(masks, boxes.int().tolist()):
        mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = 1
    sample = DetDataSample(metainfo=_meta(size))
    sample.gt_instances = InstanceData(
        bboxes=boxes,
        labels=torch.randint(classes, (len(boxes),), generator=generator),
    )
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    if predicts_masks(model):  # RTMDet takes the centers of boxes where there are none
        sample.gt_instances.masks = BitmapMasks(masks, h, w)
        sample.ignored_instances.masks = BitmapMasks(masks[:0], h, w)
    if any(name.endswith('semantic_head') for name, _ in model.named_modules()):
        sample.gt_sem_seg = PixelData(sem_seg=torch.randint(stuff, (1, h, w), generator=generator))
    return sample


def _segmentation(model: nn.Module, size: tuple[int, int], generator: torch.Generator) -> Any:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    classes = _num_classes(model, 'decode_head')
    sample = SegDataSample(metainfo=_meta(size))
    sample.gt_sem_seg = PixelData(data=torch.randint(classes, (1, *size), generator=generator))
    return sample


def _classification(model: nn.Module, size: tuple[int, int], generator: torch.Generator) -> Any:
    from mmpretrain.structures import DataSample

    classes = _num_classes(model, 'head')
    return DataSample(metainfo=_meta(size)).set_gt_label(torch.randint(classes, (1,), generator=generator))


def _meta(size: tuple[int, int]) -> dict[str, Any]:
    return dict(
        img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size, img_id=0, scale_factor=(1.0, 1.0)
    )


def _num_classes(model: nn.Module, head: str) -> int:
    """The fewest classes that heads of this name know: a label that fits all of them."""
    found = [
        int(module.num_classes)
        for name, module in model.named_modules()
        if head in name.split('.') and isinstance(getattr(module, 'num_classes', None), int)
    ]
    return max(1, min(found, default=1))
