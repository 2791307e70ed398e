"""Reads each family of backbones as a stem and a list of stages, which consist of blocks."""

from protuning_mm.stages.layouts import Maps, MapsLast, PrefixedTokens, SizedTokens
from protuning_mm.stages.structure import Block, ReadingError, SettingError, Stage, Stages, stage_indices

from protuning_mm.stages import convnext, resnet, swin, timm, vit  # noqa: F401  # isort: skip
from protuning_mm.stages.readers import read_stages, register_reader

__all__ = [
    'Block',
    'Maps',
    'MapsLast',
    'PrefixedTokens',
    'ReadingError',
    'SettingError',
    'SizedTokens',
    'Stage',
    'Stages',
    'read_stages',
    'register_reader',
    'stage_indices',
]
