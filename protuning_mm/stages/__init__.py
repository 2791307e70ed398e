"""Reads each family of backbones as a stem and a list of stages, which consist of blocks."""

from protuning_mm.stages.layouts import EmbeddedTokens, Maps, MapsLast, PrefixedTokens, SizedTokens
from protuning_mm.stages.structure import Block, ReadingError, SettingError, Stage, Stages, stage_indices

from protuning_mm.stages import convnext, hrnet, pyramids, resnet, swin, timm, torchvision, vit  # noqa: F401  # isort: skip
from protuning_mm.stages.readers import register_reader
from protuning_mm.stages.reading import read_stages

__all__ = [
    'Block',
    'EmbeddedTokens',
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
