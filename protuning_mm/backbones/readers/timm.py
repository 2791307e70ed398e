"""Models of timm, by the stage information that they carry."""

import sys
from functools import partial
from typing import Any

from torch import Tensor, nn

from protuning_mm.backbones.readers.base import register_reader
from protuning_mm.backbones.readers.vit import cut
from protuning_mm.stages import Block, Maps, MapsLast, PrefixedTokens, Stage, Stages, out_stages


@register_reader('timm.*')
def read_timm(plain: Any, num_stages: int) -> Stages:
    """Stages are what the model's ``feature_info`` names, without the stem.

    Raises:
        TypeError: the model has no such information.
    """
    info = [dict(entry) for entry in getattr(plain, 'feature_info', None) or ()]
    if not info or not all('module' in entry for entry in info):
        raise TypeError(
            f'timm model {type(plain).__name__} cannot be read as stages: it has no feature_info that names modules'
        )
    chosen = getattr(plain, 'out_indices', None)
    if hasattr(plain, 'num_prefix_tokens') and hasattr(plain, 'blocks'):
        return _read_vit(plain, num_stages, chosen)
    names = [entry['module'] for entry in info]
    # a stem is one layer, a stage is made of blocks
    first = next(i for i, name in enumerate(names) if _paths_of_blocks(plain, name))
    known = [name for name, _ in plain.named_modules()]
    stages, start = [], 0
    for entry in info[first:]:
        path = entry['module']
        parent, _, last = path.rpartition('.')
        # EfficientNet's information names the last of several modules in a row
        modules = tuple(f'{parent}.{i}' for i in range(start, int(last) + 1)) if last.isdigit() and parent else (path,)
        start = int(last) + 1 if last.isdigit() else 0
        blocks = tuple(
            _block(plain, p) for module in modules if module in known for p in _paths_of_blocks(plain, module)
        )
        stages.append(Stage(modules, blocks, path, entry['num_chs']))
    layout = MapsLast() if getattr(plain, 'output_fmt', 'NCHW') == 'NHWC' else Maps()
    if chosen is None:
        return Stages(tuple(stages), (len(stages) - 1,), layout, run=_pooled, convert=_convert)
    outs = out_stages(chosen, len(stages))
    run = partial(_pyramid, tuple(i + first for i in outs))
    return Stages(tuple(stages), outs, layout, run=run, convert=_convert, unused=_after(plain, stages[-1]))


def _read_vit(plain: Any, num_stages: int, chosen: Any) -> Stages:
    paths = [f'blocks.{i}' for i in range(len(plain.blocks))]
    groups = cut([Block(path, attention=f'{path}.attn', mlp=f'{path}.mlp') for path in paths], num_stages)
    stages = tuple(
        Stage(tuple(b.path for b in group), tuple(group), group[-1].path, plain.embed_dim) for group in groups
    )
    cls_only = chosen is None and plain.global_pool == 'token'
    layout = PrefixedTokens(plain.num_prefix_tokens, 'patch_embed', _grid, prefix_only=cls_only)
    if chosen is None:
        return Stages(stages, (len(stages) - 1,), layout, run=_pooled, convert=_convert)
    outs = out_stages(chosen, len(stages))
    ends = tuple(int(stages[i].end.split('.')[1]) for i in outs)
    run = partial(_pyramid, ends)
    return Stages(stages, outs, layout, run=run, convert=_convert, unused=_after(plain, stages[-1]))


def _convert(plain: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """timm keeps what it knows of others' layouts and sizes beside each family."""
    convert = getattr(sys.modules[type(plain).__module__], 'checkpoint_filter_fn', None)
    return state if convert is None else convert(state, plain)


def _pooled(plain: nn.Module, image: Tensor) -> tuple[Tensor]:
    """The feature (N, C) that timm's own classifier would see."""
    return (plain(image),)


def _pyramid(indices: tuple[int, ...], plain: Any, image: Tensor) -> tuple[Tensor, ...]:
    return tuple(plain.forward_intermediates(image, indices=list(indices), intermediates_only=True))


def _after(plain: nn.Module, last: Stage) -> tuple[str, ...]:
    """What stands behind the last stage, such as a final norm: a pyramid does without."""
    names = [name for name, _ in plain.named_children()]
    return tuple(f'{name}.' for name in names[names.index(last.end.split('.')[0]) + 1 :])


def _grid(module: Any, args: Any, output: Any) -> tuple[int, int]:
    height, width = module.dynamic_feat_size(args[0].shape[-2:])
    return height, width


def _paths_of_blocks(plain: nn.Module, path: str) -> list[str]:
    """Blocks are the children of a stage, or of its ``blocks``, that have layers with weights in them."""
    stage = plain.get_submodule(path)
    inner = getattr(stage, 'blocks', None)
    holder, prefix = (inner, f'{path}.blocks') if isinstance(inner, nn.Module) else (stage, path)
    names = [
        name
        for name, child in holder.named_children()
        if name != 'downsample' and any(isinstance(part, nn.Conv2d | nn.Linear) for part in list(child.modules())[1:])
    ]
    return [f'{prefix}.{name}' for name in names]


def _block(plain: nn.Module, path: str) -> Block:
    block = plain.get_submodule(path)
    if hasattr(block, 'attn') and hasattr(block, 'mlp'):
        return Block(path, attention=f'{path}.attn', mlp=f'{path}.mlp')
    spatial = [
        name
        for name, module in block.named_modules()
        if isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1 and 'downsample' not in name
    ]
    return Block(path, conv=f'{path}.{spatial[-1]}' if spatial else None)
