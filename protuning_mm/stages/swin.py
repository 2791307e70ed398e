"""Swin Transformers of mmdet, mmseg and mmpretrain."""

from typing import Any

from torch import Tensor

from protuning_mm.stages.layouts import SizedTokens
from protuning_mm.stages.readers import register_reader, rename_key
from protuning_mm.stages.structure import Block, Stage, Stages

# from the names in the authors' checkpoints to those of the hosts, which all use the same
_NAMES = {
    r'^layers\.': 'stages.',
    r'^patch_embed\.proj\.': 'patch_embed.projection.',
    r'\.attn\.': '.attn.w_msa.',
    r'\.mlp\.fc1\.': '.ffn.layers.0.0.',
    r'\.mlp\.fc2\.': '.ffn.layers.1.',
}


@register_reader('mmdet.SwinTransformer', 'mmseg.SwinTransformer', 'mmpretrain.SwinTransformer')
def read_swin(plain: Any, num_stages: int) -> Stages:
    """Read Swin: every stage but the first begins with patch merging, and a stage ends with its last block."""
    stages = []
    for i, sequence in enumerate(plain.stages):
        paths = [f'stages.{i}.blocks.{j}' for j in range(len(sequence.blocks))]
        blocks = tuple(Block(path, attention=f'{path}.attn', mlp=f'{path}.ffn.layers') for path in paths)
        merging = (f'stages.{i - 1}.downsample',) if i else ()
        stages.append(Stage((*merging, *paths), blocks, paths[-1], int(plain.num_features[i])))
    outs = tuple(plain.out_indices)
    norms = tuple(f'norm{i}.' for i in outs)
    return Stages(tuple(stages), outs, SizedTokens(), convert=_convert, optional_keys=norms)


def _convert(plain: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the authors' state dict to the hosts' layout; a classifier's final norm becomes the last output norm."""
    if any(key.startswith('layers.') for key in state):
        state = {rename_key(key, _NAMES): _reorder_merging(key, value) for key, value in state.items()}
    last = f'norm{plain.out_indices[-1]}.'
    return {last + key[5:] if key.startswith('norm.') else key: value for key, value in state.items()}


def _reorder_merging(key: str, value: Tensor) -> Tensor:
    """Reorder the weights of patch merging.

    The authors concatenate the four corners of a patch as (corner, channel), column by column. The hosts unfold them as
    (channel, corner), row by row.
    """
    if 'downsample' not in key:
        return value
    corners = value.reshape(*value.shape[:-1], 4, -1)[..., [0, 2, 1, 3], :]
    return corners.transpose(-1, -2).flatten(-2)
