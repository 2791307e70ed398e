"""Pyramids of the hosts with norms between their stages: PVT, SegFormer's MiT, Twins, SegNeXt's MSCAN and VAN."""

from typing import Any

from torch import Tensor

from protuning_mm.stages.layouts import EmbeddedTokens
from protuning_mm.stages.readers import register_reader
from protuning_mm.stages.structure import Block, Stage, Stages


@register_reader('mmdet.PyramidVisionTransformer', 'mmseg.MixVisionTransformer')
def read_pvt(plain: Any, num_stages: int) -> Stages:
    """Read PVT and MiT: ``layers[i]`` contains the patch embedding, the blocks and the norm of a stage.

    PVT's position embeddings are the first of the blocks, and called like them.
    """
    stages = []
    for i, (_, blocks, _) in enumerate(plain.layers):
        paths = [f'layers.{i}.1.{j}' for j in range(len(blocks))]
        before = (f'layers.{i - 1}.2', f'layers.{i}.0') if i else ()
        named = [Block(path, f'{path}.attn.attn') for path, block in zip(paths, blocks) if hasattr(block, 'attn')]
        stages.append(Stage((*before, *paths), tuple(named), paths[-1], int(plain.layers[i][0].embed_dims)))
    layout = EmbeddedTokens(type(plain.layers[0][0]))
    convert = _convert_pvt if hasattr(plain, 'convert_weights') else None
    return Stages(tuple(stages), tuple(plain.out_indices), layout, convert=convert)


def _convert_pvt(plain: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the authors' state dict of PVT, by mmdet's own function."""
    if not any(key.startswith('block1.') for key in state):
        return state
    from mmdet.models.backbones.pvt import pvt_convert

    return dict(pvt_convert(state))


@register_reader('mmseg.PCPVT', 'mmpretrain.PCPVT')
def read_twins(plain: Any, num_stages: int) -> Stages:
    """Read Twins (PCPVT and SVT): a position encoding follows the first block of each stage."""
    name = 'stages' if hasattr(plain, 'stages') else 'layers'  # of mmpretrain or mmseg
    has_norms = hasattr(plain, 'norm_after_stage0') or plain.norm_after_stage
    norm = 'norm_after_stage{}' if hasattr(plain, 'norm_after_stage0') else 'norm_list.{}'
    stages = []
    for i, blocks in enumerate(getattr(plain, name)):
        paths = [f'{name}.{i}.{j}' for j in range(len(blocks))]
        norms = (norm.format(i - 1),) if i and has_norms else ()
        embedding = (f'patch_embeds.{i}',) if i else ()
        modules = (*norms, *embedding, paths[0], f'position_encodings.{i}', *paths[1:])
        named = [Block(path, attention=f'{path}.attn', mlp=f'{path}.ffn.layers') for path in paths]
        stages.append(Stage(modules, tuple(named), modules[-1], int(plain.patch_embeds[i].embed_dims)))
    return Stages(tuple(stages), tuple(plain.out_indices), EmbeddedTokens(type(plain.patch_embeds[0])))


@register_reader('mmseg.MSCAN')
def read_mscan(plain: Any, num_stages: int) -> Stages:
    """Read MSCAN: its blocks are called with the tokens, H and W, and contain convolutions."""
    stages = []
    for i in range(1, plain.num_stages + 1):
        paths = [f'block{i}.{j}' for j in range(len(getattr(plain, f'block{i}')))]
        before = (f'norm{i - 1}', f'patch_embed{i}') if i > 1 else ()
        named = tuple(Block(path, conv=f'{path}.attn.spatial_gating_unit.conv0') for path in paths)
        channels = int(getattr(plain, f'norm{i}').normalized_shape[0])
        stages.append(Stage((*before, *paths), named, paths[-1], channels))
    return Stages(tuple(stages), tuple(range(plain.num_stages)), EmbeddedTokens(type(plain.patch_embed2), True))


@register_reader('mmpretrain.VAN')
def read_van(plain: Any, num_stages: int) -> Stages:
    """Read VAN: its blocks take feature maps, but a norm on tokens follows the last block of each stage."""
    stages = []
    for i in range(1, plain.num_stages + 1):
        paths = [f'blocks{i}.{j}' for j in range(len(getattr(plain, f'blocks{i}')))]
        blocks = tuple(Block(path, conv=f'{path}.attn.spatial_gating_unit.DW_conv') for path in paths)
        modules = (f'patch_embed{i}', *paths) if i > 1 else tuple(paths)
        stages.append(Stage(modules, blocks, paths[-1], int(plain.embed_dims[i - 1])))
    return Stages(tuple(stages), tuple(plain.out_indices), in_sequence=False)
