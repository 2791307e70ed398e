"""ConvNeXt of mmpretrain."""

from typing import Any

from protuning_mm.stages.readers import register_reader
from protuning_mm.stages.structure import Block, Stage, Stages


@register_reader('mmpretrain.ConvNeXt')
def read_convnext(plain: Any, num_stages: int) -> Stages:
    """Read ConvNeXt: every stage but the first begins with its downsampling; that of the first stage is the stem."""
    stages = []
    for i, stage in enumerate(plain.stages):
        path = f'stages.{i}'
        blocks = tuple(Block(f'{path}.{j}', conv=f'{path}.{j}.depthwise_conv') for j in range(len(stage)))
        modules = (f'downsample_layers.{i}', path) if i else (path,)
        stages.append(Stage(modules, blocks, path, int(plain.channels[i])))
    outs = tuple(plain.out_indices)
    return Stages(tuple(stages), outs, optional_keys=tuple(f'norm{i}.' for i in outs))
