"""ResNet and its subclasses in mmdet, mmseg and mmpretrain: ResNetV1c, ResNetV1d, ResNeXt, RegNet, …"""

from typing import Any

from protuning_mm.stages.readers import register_reader
from protuning_mm.stages.structure import Block, Stage, Stages


@register_reader('mmdet.ResNet', 'mmseg.ResNet', 'mmpretrain.ResNet')
def read_resnet(plain: Any, num_stages: int) -> Stages:
    """Read ResNet: its stages are ``layer1``, ``layer2``, …; a block's spatial convolution is its second."""
    widths = getattr(plain, 'stage_widths', None)  # RegNet
    if widths is None:
        # mmpretrain stores the expansion in the network, mmdet and mmseg in the block's class
        expansion = getattr(plain, 'expansion', None) or plain.block.expansion
        widths = [plain.base_channels * expansion * 2**i for i in range(len(plain.res_layers))]
    stages = []
    for path, channels in zip(plain.res_layers, widths):
        layer = plain.get_submodule(path)
        blocks = tuple(Block(f'{path}.{i}', conv=f'{path}.{i}.conv2') for i in range(len(layer)))
        stages.append(Stage((path,), blocks, path, channels))
    return Stages(tuple(stages), outs=tuple(plain.out_indices))
