"""A batch of noise images with fake annotations, in the form that the hosts' models take."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from protuning_mm.engine.faked_predictions import predicts_masks

Batch = tuple[Tensor, list[Any]]


def make_noise_batch(model: nn.Module, images: int, size: tuple[int, int], device: str = 'cpu') -> Batch:
    """Make inputs and data samples for ``model(inputs, samples, mode='loss')``, without the data preprocessor.

    Args:
        model (nn.Module): A detector, segmentor or classifier of the hosts.
        images (int): Number of images.
        size (tuple[int, int]): Height and width of the images.
        device (str): Device of the tensors. Defaults to ``'cpu'``.

    Returns:
        tuple: The inputs, (N, 3, H, W), and N data samples.

    Raises:
        TypeError: the model is not a detector, segmentor or classifier.
    """
    kinds = [f'{cls.__module__.split(".")[0]}.{cls.__name__}' for cls in type(model).__mro__]
    make = next((_SAMPLES[kind] for kind in kinds if kind in _SAMPLES), None)
    if make is None:
        name, hosts = type(model).__name__, 'mmdet, mmseg or mmpretrain'
        raise TypeError(f'{name} is not a detector, segmentor or classifier of {hosts}')
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
    # x1, y1, x2, y2 relative to the image size: boxes of 1% to 25% of the image's area
    relative = [(0.1, 0.1, 0.6, 0.6), (0.3, 0.2, 0.55, 0.5), (0.5, 0.5, 0.95, 0.9), (0.6, 0.1, 0.7, 0.2)]
    boxes = torch.tensor(relative) * torch.tensor([w, h, w, h])
    masks = np.zeros((len(boxes), h, w), np.uint8)
    for mask, box in zip(masks, boxes.int().tolist()):
        mask[box[1] : box[3] + 1, box[0] : box[2] + 1] = 1
    sample = DetDataSample(metainfo=_meta(size))
    labels = torch.randint(classes, (len(boxes),), generator=generator)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    if predicts_masks(model):  # RTMDet uses the boxes' centers if there are no masks
        sample.gt_instances.masks = BitmapMasks(masks, h, w)
        sample.ignored_instances.masks = BitmapMasks(masks[:0], h, w)
    if getattr(model, 'with_rpn', True) is False:  # Fast R-CNN reads its proposals from a file
        sample.proposals = InstanceData(bboxes=boxes.clone(), scores=torch.ones(len(boxes)))
    if any(name.endswith('semantic_head') for name, _ in model.named_modules()):
        sample.gt_sem_seg = PixelData(sem_seg=torch.randint(stuff, (1, h, w), generator=generator))
    return sample


def _segmentation(model: nn.Module, size: tuple[int, int], generator: torch.Generator) -> Any:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.randint(_num_classes(model, 'decode_head'), (1, *size), generator=generator)
    return SegDataSample(metainfo=_meta(size), gt_sem_seg=PixelData(data=labels))


def _classification(model: nn.Module, size: tuple[int, int], generator: torch.Generator) -> Any:
    from mmpretrain.structures import DataSample

    classes = _num_classes(model, 'head')
    return DataSample(metainfo=_meta(size)).set_gt_label(torch.randint(classes, (1,), generator=generator))


_SAMPLES: dict[str, Callable[[nn.Module, tuple[int, int], torch.Generator], Any]] = {
    'mmdet.BaseDetector': _detection,
    'mmseg.BaseSegmentor': _segmentation,
    'mmpretrain.BaseClassifier': _classification,
}


def _meta(size: tuple[int, int]) -> dict[str, Any]:
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), size)
    return dict(shapes, img_id=0, scale_factor=(1.0, 1.0))


def _num_classes(model: nn.Module, head: str) -> int:
    """Return the smallest number of classes of all heads with a name, so that labels below it fit every head."""
    found = [
        int(module.num_classes)
        for name, module in model.named_modules()
        if head in name.split('.') and isinstance(getattr(module, 'num_classes', None), int)
    ]
    return max(1, min(found, default=1))
