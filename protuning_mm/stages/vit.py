"""Plain vision transformers (ViT, DeiT) of mmseg and mmpretrain."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from protuning_mm.stages.layouts import PrefixedTokens
from protuning_mm.stages.readers import register_reader, rename_key
from protuning_mm.stages.structure import Block, Stage, Stages, split_evenly

# from timm's names, which the checkpoints of MAE, MoCo v3 and DeiT use, to those of the hosts
_NAMES = {
    r'^blocks\.': 'layers.',
    r'^patch_embed\.proj\.': 'patch_embed.projection.',
    r'^norm\.': 'ln1.',
    r'\.norm1\.': '.ln1.',
    r'\.norm2\.': '.ln2.',
    r'\.mlp\.fc1\.': '.ffn.layers.0.0.',
    r'\.mlp\.fc2\.': '.ffn.layers.1.',
}
_MMSEG_NAMES = {**_NAMES, r'\.attn\.qkv\.': '.attn.attn.in_proj_', r'\.attn\.proj\.': '.attn.attn.out_proj.'}


@register_reader('mmseg.VisionTransformer', 'mmpretrain.VisionTransformer')
def read_vit(plain: Any, num_stages: int) -> Stages:
    """Read a plain vision transformer: its layers are divided into ``num_stages`` groups of nearly equal size."""
    host = _host(plain)
    prefix = int(plain.with_cls_token) if host == 'mmseg' else plain.num_extra_tokens
    attention = 'attn.attn' if host == 'mmseg' else 'attn'
    return replace(_read_layers(plain, num_stages, prefix, attention), convert=_convert)


@register_reader('mmseg.BEiT', 'mmpretrain.BEiTViT')
def read_beit(plain: Any, num_stages: int) -> Stages:
    """Read BEiT and MAE of mmseg, and BEiT of mmpretrain, like other plain vision transformers."""
    return _read_layers(plain, num_stages, getattr(plain, 'num_extra_tokens', 1), 'attn')


@register_reader('mmpretrain.T2T_ViT')
def read_t2t(plain: Any, num_stages: int) -> Stages:
    """Read T2T-ViT, whose layers follow ``tokens_to_token``."""
    return _read_layers(plain, num_stages, plain.num_extra_tokens, 'attn', 'encoder', 'tokens_to_token')


@register_reader('mmpretrain.MlpMixer')
def read_mixer(plain: Any, num_stages: int) -> Stages:
    """Read MLP-Mixer: its blocks take patches only, and mix their channels where others have an MLP."""
    paths = [f'layers.{i}' for i in range(len(plain.layers))]
    blocks = [Block(path, mlp=f'{path}.channel_mix.layers') for path in paths]
    return _divide(plain, blocks, num_stages, 0, 'patch_embed')


def _read_layers(
    plain: Any, num_stages: int, prefix: int, attention: str, layers: str = 'layers', embedding: str = 'patch_embed'
) -> Stages:
    """Divide the layers of a plain vision transformer; ``attention`` is the path inside a layer."""
    paths = [f'{layers}.{i}' for i in range(len(getattr(plain, layers)))]
    blocks = [Block(path, attention=f'{path}.{attention}', mlp=f'{path}.ffn.layers') for path in paths]
    return _divide(plain, blocks, num_stages, prefix, embedding)


def _divide(plain: Any, blocks: list[Block], num_stages: int, prefix: int, embedding: str) -> Stages:
    channels = getattr(plain, 'embed_dims', None) or plain.pos_embed.shape[-1]
    stages = divide_layers(blocks, num_stages, int(channels))
    stage_of = [i for i, stage in enumerate(stages) for _ in stage.blocks]
    outs = tuple(stage_of[layer] for layer in plain.out_indices)
    cls_only = getattr(plain, 'out_type', None) == 'cls_token'
    return Stages(stages, outs, PrefixedTokens(prefix, embedding, _grid, prefix_only=cls_only))


def divide_layers(blocks: list[Block], num_stages: int, channels: int) -> tuple[Stage, ...]:
    """Divide transformer layers into stages whose numbers of layers differ by at most one.

    Raises:
        ValueError: ``num_stages`` is not between 1 and the number of layers.
    """
    if not 1 <= num_stages <= len(blocks):
        raise ValueError(f'num_stages={num_stages}: must be from 1 to {len(blocks)}, the number of layers')
    groups = [tuple(blocks[begin:end]) for begin, end in split_evenly(len(blocks), num_stages)]
    return tuple(Stage(tuple(b.path for b in group), group, group[-1].path, channels) for group in groups)


def _grid(module: nn.Module, args: Any, output: Any) -> tuple[int, int]:
    height, width = output[1]
    return height, width


def _host(plain: Any) -> str:
    classes = (cls for cls in type(plain).__mro__ if cls.__name__ == 'VisionTransformer')
    return next(classes).__module__.split('.')[0]


def _convert(plain: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    host = _host(plain)
    if any(key.startswith('blocks.') for key in state):
        state = {rename_key(key, _MMSEG_NAMES if host == 'mmseg' else _NAMES): value for key, value in state.items()}
        if not hasattr(plain, 'ln1'):  # the backbone was built without a final norm
            state = {key: value for key, value in state.items() if not key.startswith('ln1.')}
    positions = state.get('pos_embed')
    if host == 'mmseg' and positions is not None and positions.shape != plain.pos_embed.shape:
        # mmseg resizes position embeddings only in init_weights; mmpretrain does it in every load_state_dict
        side = int((positions.shape[1] - 1) ** 0.5)
        grid = tuple(size // plain.patch_size for size in plain.img_size)
        state['pos_embed'] = plain.resize_pos_embed(positions, grid, (side, side), plain.interpolate_mode)
    return state
