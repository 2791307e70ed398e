"""``tools/analysis_tools/parameter_grid.py``: trained parameters of every tuning on the paper's backbones and tasks.

The models are built on the meta device, without memory for their weights.
"""

import argparse
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn
from torch.overrides import TorchFunctionMode

from protuning_mm.backbones import TunedBackbone
from protuning_mm.cli.command import command
from protuning_mm.cli.count_params import CONFIGS
from protuning_mm.stages import PrefixedTokens, Stages
from protuning_mm.tunings import TuningError

# task: (its config, the backbone entry that it uses in a config of _base_/backbones)
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
# tuning: {name in the table: settings to add to the tuning's config}
VARIANTS: dict[str, dict[str, Any]] = {
    'adapter': {'adapter 1': {}, 'adapter 2': dict(variant=2)},
    'vpt': {'vpt shallow': {}, 'vpt deep': dict(deep=True)},
}


def read_tunings(configs: Path) -> dict[str, dict[str, Any]]:
    """Read the configs in ``configs/_base_/tunings``: first the tunings in the paper's order, then the others."""
    first = ('full', 'linear', 'partial', 'bias', 'side', 'adapter', 'adaptformer', 'pro')
    names = sorted(path.stem for path in (configs / '_base_/tunings').glob('*.py'))
    found = {}
    for name in [*first, *(n for n in names if n not in first)]:
        cfg = Config.fromfile(configs / f'_base_/tunings/{name}.py').tuning.to_dict()
        for label, settings in VARIANTS.get(name, {name: {}}).items():
            found[label] = cfg | settings
    return found


def count_grid(configs: Path, backbones: Mapping[str, str] = BACKBONES) -> dict[str, dict[str, dict[str, Any]]]:
    """Count the trained parameters of every task, tuning and backbone.

    Args:
        configs (Path): The folder of this package's configs.
        backbones (Mapping): Name in the table -> name of the config in ``_base_/backbones``. Defaults to the paper's
            backbones.

    Returns:
        dict: Task -> tuning -> backbone -> ``(trained, full)``, where ``full`` is the number that full fine-tuning
        trains, or None if the tuning does not fit the backbone.
    """
    tunings = read_tunings(configs)
    grid: dict[str, dict[str, dict[str, Any]]] = {task: {name: {} for name in tunings} for task in TASKS}
    for label, file in backbones.items():
        fragment = Config.fromfile(configs / f'_base_/backbones/{file}.py')
        counts: dict[str, dict[str, int | None]] = {}
        structures: dict[str, Stages] = {}
        for kind in ('cls', 'det', 'seg'):
            cfg = _without_weights(fragment[f'{kind}_backbone'].to_dict())
            counts[kind] = {}
            for name, tuning in tunings.items():
                counts[kind][name], structures[kind] = _count_backbone(cfg, tuning, structures.get(kind))
        for task, (config, kind) in TASKS.items():
            rest = _count_neck_and_heads(None if config is None else configs / config, structures[kind])
            full = counts[kind]['full']
            for name, trained in counts[kind].items():
                grid[task][name][label] = None if trained is None else (trained + rest, full + rest)  # type: ignore[operator]
    return grid


def format_grid(grid: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Format the counts as one Markdown table per task, with a row per tuning and a column per backbone."""
    parts = []
    for task, rows in grid.items():
        names = list(next(iter(rows.values())))
        lines = [f'### {task}', '', '| tuning | ' + ' | '.join(names) + ' |', '|---' + '|---:' * len(names) + '|']
        for tuning, cells in rows.items():
            lines.append(f'| {tuning} | ' + ' | '.join(_format_cell(cells[name]) for name in names) + ' |')
        parts.append('\n'.join(lines))
    return '\n\n'.join(parts)


def _format_cell(counted: tuple[int, int] | None) -> str:
    if counted is None:
        return '–'
    trained, full = counted
    return f'{trained / 1e6:.2f} ({trained / full:.1%})'


def _without_weights(cfg: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in cfg.items() if key not in ('init_cfg', 'pretrained')}


def _count_backbone(cfg: dict[str, Any], tuning: dict[str, Any], structure: Stages | None) -> tuple[int | None, Any]:
    """Return the number of trained parameters of a tuned backbone, and the structure of the backbone."""
    try:
        with no_memory():
            tuned = TunedBackbone(
                copy.deepcopy(cfg), tuning, host=cfg['type'].split('.')[0].replace('timm', '') or None
            )
    except TuningError:
        return None, structure
    return sum(p.numel() for p in tuned.parameters() if p.requires_grad), tuned.structure


class _NoBackbone(nn.Module):
    """A module without parameters, which replaces the backbone when the other parameters are counted."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()


def _count_neck_and_heads(config: Path | None, structure: Stages) -> int:
    """Count the parameters of neck and heads for the channels of a backbone."""
    channels = [structure.channels[i] for i in structure.outs]
    if config is None:
        return channels[-1] * 120 + 120
    cfg = Config.fromfile(config)
    model = _set_channels(cfg.model, channels, single_scale=isinstance(structure.layout, PrefixedTokens))
    model['backbone'] = dict(type=_NoBackbone)
    model.pop('pretrained', None)
    with no_memory(), MODELS.switch_scope_and_registry(cfg.default_scope) as registry:
        built = registry.build(model)
    return sum(p.numel() for p in built.parameters())


def _set_channels(model: dict[str, Any], channels: list[int], single_scale: bool) -> dict[str, Any]:
    """Set the channels of a task's model; features of a single scale get a pyramid if the model uses several scales."""
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


class _LinspaceOnCPU(TorchFunctionMode):
    """Creates linspaces on the CPU, because the hosts read drop-path rates from them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs.setdefault('device', 'cpu')
        return func(*args, **kwargs)


@contextmanager
def no_memory() -> Iterator[None]:
    """Build modules on the meta device inside this context: their tensors have shapes but no values."""
    with torch.device('meta'), _LinspaceOnCPU():
        yield


@command
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Count the trained parameters of every tuning on the paper's backbones and tasks"
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of Markdown')
    args = parser.parse_args(argv)
    counted = count_grid(CONFIGS)
    print(json.dumps(counted, indent=2) if args.json else format_grid(counted))


if __name__ == '__main__':
    main()
