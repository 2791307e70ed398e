"""Models of timm, read from their ``feature_info``."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from protuning_mm.stages.blocks import read_block
from protuning_mm.stages.efficientnet import convert_efficientnet_pytorch, is_efficientnet_pytorch
from protuning_mm.stages.layouts import Maps, MapsLast, PrefixedTokens
from protuning_mm.stages.readers import reading_error, register_reader
from protuning_mm.stages.structure import Block, Stage, Stages, out_stages
from protuning_mm.stages.vit import divide_layers


@register_reader('timm.*')
def read_timm(plain: Any, num_stages: int) -> Stages:
    """Read a model of timm: its stages are the features listed in ``feature_info``, without the stem.

    Raises:
        ReadingError: the model has no ``feature_info``, or it does not list distinct modules made of blocks.
        SettingError: ``out_indices`` is out of range.
    """
    info = [dict(entry) for entry in getattr(plain, 'feature_info', None) or ()]
    if not info or not all('module' in entry for entry in info):
        raise reading_error(plain, 'it has no feature_info that names modules')
    if getattr(plain, 'out_indices', None) is not None and not hasattr(plain, 'forward_intermediates'):
        raise reading_error(plain, 'it has no forward_intermediates, which out_indices requires: remove out_indices')
    if hasattr(plain, 'num_prefix_tokens') and hasattr(plain, 'blocks'):
        return _read_vit(plain, num_stages)
    ends = [entry['module'] for entry in info]
    known = {name for name, _ in plain.named_modules()} - {''}
    for path in ends:
        if path not in known:
            raise reading_error(plain, f'its feature_info names {path!r}, which is not one of its modules')
        if ends.count(path) > 1:
            raise reading_error(plain, f'its feature_info names {path!r} for {ends.count(path)} features')
    # features before the first one made of blocks belong to the stem
    first = next((i for i, path in enumerate(ends) if _paths_of_blocks(plain, path)), None)
    if first is None:
        raise reading_error(plain, f'none of the modules {ends} in its feature_info is made of blocks')
    stages = []
    for entry, modules in zip(info[first:], _modules_of_stages(plain, ends, first)):
        blocks = tuple(read_block(plain, path) for module in modules for path in _paths_of_blocks(plain, module))
        stages.append(Stage(modules, blocks, entry['module'], entry['num_chs']))
    layout = MapsLast() if getattr(plain, 'output_fmt', 'NCHW') == 'NHWC' else Maps()
    return _with_outputs(plain, tuple(stages), layout, range(first, len(info)))


def _with_outputs(plain: Any, stages: tuple[Stage, ...], layout: Maps, indices: Sequence[int]) -> Stages:
    """Return stages with the outputs that ``out_indices`` selects; ``indices`` gives timm's index of each stage."""
    chosen = getattr(plain, 'out_indices', None)
    if chosen is None:
        pooled = getattr(plain, 'head_hidden_size', getattr(plain, 'num_features', None))
        last = len(stages) - 1
        return Stages(stages, (last,), layout, run=_pooled, convert=_convert, pooled_channels=pooled)
    outs = out_stages(chosen, len(stages))
    run = partial(_pyramid, [indices[i] for i in outs])
    return Stages(stages, outs, layout, run=run, convert=_convert, unused_keys=_keys_after(plain, stages[-1]))


def _modules_of_stages(plain: nn.Module, ends: list[str], first: int) -> list[tuple[str, ...]]:
    """Return the modules of each stage: its end, preceded by the modules with weights since the previous stage's end.

    Args:
        plain (nn.Module): The model.
        ends (list[str]): Paths of the modules in ``feature_info``, the stem's included.
        first (int): Index of the first stage in ``ends``.
    """
    parent, stem = ends[first].rpartition('.')[0], ends[first - 1] if first else None
    if stem and parent and stem.startswith(f'{parent}.') and stem.rpartition('.')[0] != parent:
        stem = None  # a layer inside a block of the first stage
    found, modules = list[tuple[str, ...]](), list[str]()
    for path in _outermost_paths(plain, '', [*([stem] if stem else []), *ends[first:]]):
        if path == stem:
            modules = []
        elif path in ends[first:]:
            if not found:  # before the first stage, modules outside the end's parent belong to the stem
                modules = [module for module in modules if (module.startswith(f'{parent}.') if parent else stem)]
            found.append((*modules, path))
            modules = []
        elif any(True for _ in plain.get_submodule(path).parameters()):
            modules.append(path)
    return found


def _outermost_paths(plain: nn.Module, path: str, ends: list[str]) -> Iterator[str]:
    """Yield module paths in order: the ends of stages, and the outermost modules that contain no end."""
    for name, _ in plain.get_submodule(path).named_children():
        child = f'{path}.{name}' if path else name
        inside = child not in ends and any(end.startswith(f'{child}.') for end in ends)
        yield from _outermost_paths(plain, child, ends) if inside else (child,)


def _read_vit(plain: Any, num_stages: int) -> Stages:
    if not hasattr(getattr(plain, 'patch_embed', None), 'dynamic_feat_size'):
        raise reading_error(plain, 'its patch_embed has no dynamic_feat_size, which gives the size of the grid')
    paths = [f'blocks.{i}' for i in range(len(plain.blocks))]
    blocks = [Block(path, attention=f'{path}.attn', mlp=f'{path}.mlp') for path in paths]
    stages = divide_layers(blocks, num_stages, plain.embed_dim)
    cls_only = getattr(plain, 'out_indices', None) is None and plain.global_pool == 'token'
    layout = PrefixedTokens(plain.num_prefix_tokens, 'patch_embed', _grid, prefix_only=cls_only)
    return _with_outputs(plain, stages, layout, [paths.index(stage.end) for stage in stages])


def _convert(plain: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a published state dict: in EfficientNet-PyTorch's layout, or by timm's own ``checkpoint_filter_fn``."""
    if is_efficientnet_pytorch(state) and hasattr(plain, 'conv_stem'):
        return convert_efficientnet_pytorch(plain, state)
    convert = getattr(sys.modules[type(plain).__module__], 'checkpoint_filter_fn', None)
    return state if convert is None else convert(state, plain)


def _pooled(plain: nn.Module, image: Tensor) -> tuple[Tensor]:
    """Return the pooled feature (N, C), the input of timm's own classifier."""
    return (plain(image),)


def _pyramid(indices: list[int], plain: Any, image: Tensor) -> tuple[Tensor, ...]:
    return tuple(plain.forward_intermediates(image, indices=indices, intermediates_only=True))


def _keys_after(plain: nn.Module, last: Stage) -> tuple[str, ...]:
    """Return the key prefixes of modules after the last stage, such as a final norm, which a pyramid does not use."""
    names = [name for name, _ in plain.named_children()]
    return tuple(f'{name}.' for name in names[names.index(last.end.split('.')[0]) + 1 :])


def _grid(module: Any, args: Any, output: Any) -> tuple[int, int]:
    height, width = module.dynamic_feat_size(args[0].shape[-2:])
    return height, width


def _paths_of_blocks(plain: nn.Module, path: str) -> list[str]:
    """Return the paths of a stage's blocks: children of the stage or of its ``blocks`` that contain weight layers."""
    stage = plain.get_submodule(path)
    inner = getattr(stage, 'blocks', None)
    holder, prefix = (inner, f'{path}.blocks') if isinstance(inner, nn.Module) else (stage, path)
    names = [
        name
        for name, child in holder.named_children()
        if name != 'downsample' and any(isinstance(part, nn.Conv2d | nn.Linear) for part in list(child.modules())[1:])
    ]
    return [f'{prefix}.{name}' for name in names]
