"""HRNet of the hosts, whose stages compute several feature maps of different sizes side by side."""

from typing import Any

from protuning_mm.stages.readers import register_reader
from protuning_mm.stages.structure import Block, Stage, Stages


@register_reader('mmdet.HRNet', 'mmseg.HRNet', 'mmpretrain.HRNet')
def read_hrnet(plain: Any, num_stages: int) -> Stages:
    """Read HRNet: each branch of each of its stages is a stage of its own.

    A branch ends before the fusion at the end of HRNet's stage, which adds the branches' features to each other.
    """
    stages = [_read_branch(plain, ['layer1'])]
    for name in ('stage2', 'stage3', 'stage4'):
        modules = getattr(plain, name)
        branches = range(len(modules[-1].branches))
        stages += [_read_branch(plain, [f'{name}.{i}.branches.{b}' for i in range(len(modules))]) for b in branches]
    outputs = 1 if plain.stage4[-1].multiscale_output is False else len(plain.stage4[-1].branches)
    first = len(stages) - len(plain.stage4[-1].branches)
    return Stages(tuple(stages), tuple(range(first, first + outputs)), in_sequence=False)


def _read_branch(plain: Any, paths: list[str]) -> Stage:
    blocks = tuple(
        Block(f'{path}.{i}', conv=f'{path}.{i}.conv2') for path in paths for i in range(len(plain.get_submodule(path)))
    )
    last = plain.get_submodule(blocks[-1].path)
    widest = last.conv3 if hasattr(last, 'conv3') else last.conv2
    return Stage(tuple(paths), blocks, paths[-1], widest.out_channels)
