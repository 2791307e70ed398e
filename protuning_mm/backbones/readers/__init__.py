"""How each family of backbones is read as stages."""

from protuning_mm.backbones.readers import convnext, resnet, swin, timm, vit
from protuning_mm.backbones.readers.base import read_stages, register_reader

__all__ = ['convnext', 'read_stages', 'register_reader', 'resnet', 'swin', 'timm', 'vit']
