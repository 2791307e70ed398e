"""Backbones whose pre-trained stages are frozen, with what a tuning adds between them."""

from protuning_mm.backbones.frozen_backbone import FrozenBackbone
from protuning_mm.backbones.protuned_resnet import ProTunedResNet

__all__ = ['FrozenBackbone', 'ProTunedResNet']
