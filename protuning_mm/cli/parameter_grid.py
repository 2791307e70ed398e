"""Trained parameters of every tuning on the paper's backbones and tasks, without any weights in memory."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn
from torch.overrides import TorchFunctionMode

from protuning_mm.backbones import TunedBackbone
from protuning_mm.stages import PrefixedTokens, Stages
from protuning_mm.tunings import TuningError

# config of the task, and which of a backbone fragment's entries it takes
TASKS = {
    'Classification, 120 classes': (None, 'cls'),
    'Cascade Mask R-CNN, COCO': ('det/cascade_mask_rcnn_r50_protune.py', 'det'),
    'HTC, COCO': ('det/htc_r50_protune.py', 'det'),
    'FCN, ADE20K': ('seg/fcn_r50_protune.py', 'seg'),
    'UPerNet, ADE20K': ('seg/upernet_r50_protune.py', 'seg'),
}
BACKBONES = {
    'ResNet-50': 'resnet50',
    'ResNet-101': 'resnet101',
    'RegNetX-32GF': 'regnetx_32gf',
    'DeiT-S': 'deit_small',
    'DeiT-B': 'deit_base',
    'Swin-S': 'swin_small',
    'Swin-B': 'swin_base',
}
# beside each fragment's own settings
VARIANTS: dict[str, dict[str, Any]] = {
    'adapter': {'adapter 1': {}, 'adapter 2': dict(variant=2)},
    'vpt': {'vpt shallow': {}, 'vpt deep': dict(deep=True)},
}


def tunings(configs: Path) -> dict[str, dict[str, Any]]:
    """Every fragment of ``configs/_base_/tunings``, in the order of the paper's comparison, then the rest."""
    first = ('full', 'linear', 'partial', 'bias', 'side', 'adapter', 'adaptformer', 'pro')
    names = sorted(path.stem for path in (configs / '_base_/tunings').glob('*.py'))
    found = {}
    for name in [*first, *(n for n in names if n not in first)]:
        cfg = Config.fromfile(configs / f'_base_/tunings/{name}.py').tuning.to_dict()
        for label, settings in VARIANTS.get(name, {name: {}}).items():
            found[label] = cfg | settings
    return found


def count_grid(configs: Path, backbones: Mapping[str, str] = BACKBONES) -> dict[str, dict[str, dict[str, Any]]]:
    """Count for every task, tuning and backbone.

    Args:
        configs (Path): The package's folder of configs.
        backbones (Mapping): Name in the table -> name of the fragment.

    Returns:
        dict: task -> tuning -> backbone -> ``(trained, full)``, or ``None`` where the tuning refuses the backbone.
        ``full`` is what full fine-tuning trains.
    """
    methods = tunings(configs)
    grid: dict[str, dict[str, dict[str, Any]]] = {task: {name: {} for name in methods} for task in TASKS}
    for label, file in backbones.items():
        fragment = Config.fromfile(configs / f'_base_/backbones/{file}.py')
        counts: dict[str, dict[str, int | None]] = {}
        readings: dict[str, Stages] = {}
        for kind in ('cls', 'det', 'seg'):
            cfg = _without_weights(fragment[f'{kind}_backbone'].to_dict())
            counts[kind] = {}
            for name, tuning in methods.items():
                counts[kind][name], readings[kind] = _count_backbone(cfg, tuning, readings.get(kind))
        for task, (config, kind) in TASKS.items():
            rest = _count_rest(None if config is None else configs / config, readings[kind])
            full = counts[kind]['full']
            for name, trained in counts[kind].items():
                grid[task][name][label] = None if trained is None else (trained + rest, full + rest)  # type: ignore[operator]
    return grid


def as_markdown(grid: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A table for each task: tunings down, backbones across; millions of trained parameters and the share of full."""
    parts = []
    for task, rows in grid.items():
        names = list(next(iter(rows.values())))
        lines = [f'### {task}', '', '| tuning | ' + ' | '.join(names) + ' |', '|---' + '|---:' * len(names) + '|']
        for tuning, cells in rows.items():
            lines.append(f'| {tuning} | ' + ' | '.join(_cell(cells[name]) for name in names) + ' |')
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts)


def _cell(counted: tuple[int, int] | None) -> str:
    if counted is None:
        return '–'
    trained, full = counted
    return f'{trained / 1e6:.2f} ({trained / full:.1%})'


def _without_weights(cfg: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in cfg.items() if key not in ('init_cfg', 'pretrained')}


def _count_backbone(cfg: dict[str, Any], tuning: dict[str, Any], known: Stages | None) -> tuple[int | None, Any]:
    """Trained parameters of a tuned backbone, and how it is read."""
    try:
        with no_memory():
            tuned = TunedBackbone(
                copy.deepcopy(cfg), tuning, host=cfg['type'].split('.')[0].replace('timm', '') or None
            )
    except TuningError:
        return None, known
    return sum(p.numel() for p in tuned.parameters() if p.requires_grad), tuned.structure


class _Nothing(nn.Module):
    """Stands where the backbone would: what is counted is the rest."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()


def _count_rest(config: Path | None, reading: Stages) -> int:
    """Parameters of neck and heads on features of a backbone's channels."""
    channels = [reading.channels[i] for i in reading.outs]
    if config is None:
        return channels[-1] * 120 + 120
    cfg = Config.fromfile(config)
    model = _on_channels(cfg.model, channels, single_scale=isinstance(reading.layout, PrefixedTokens))
    model['backbone'] = dict(type=_Nothing)
    model.pop('pretrained', None)
    with no_memory(), MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        built = registry.build(model)
    return sum(p.numel() for p in built.parameters())


def _on_channels(model: dict[str, Any], channels: list[int], single_scale: bool) -> dict[str, Any]:
    """A task's model on features of other channels; those of one scale become a pyramid first, where one is used."""
    if 'roi_head' in model:
        model['neck'] = dict(model['neck'], in_channels=channels)
        if single_scale:
            pyramid = dict(type='mmseg.Feature2Pyramid', embed_dim=channels[0], norm_cfg=dict(type='BN'))
            model['neck'] = [pyramid, model['neck']]
        return model
    head, auxiliary = model['decode_head'], model['auxiliary_head']
    several = isinstance(head['in_channels'], list | tuple)
    head['in_channels'] = channels if several else channels[-1]
    auxiliary['in_channels'] = channels[2]
    if single_scale and several:
        model['neck'] = dict(
            type='MultiLevelNeck', in_channels=channels, out_channels=channels[0], scales=[4, 2, 1, 0.5]
        )
    return model


class _LinspaceInMemory(TorchFunctionMode):
    """The hosts read numbers (drop-path rates) from a linspace, which needs memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs.setdefault('device', 'cpu')
        return func(*args, **kwargs)


@contextmanager
def no_memory() -> Iterator[None]:
    """Modules built here have shapes and no values."""
    with torch.device('meta'), _LinspaceInMemory():
        yield
