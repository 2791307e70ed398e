"""Pre-trained backbones with the parameters that tunings train and the modules that they add."""

from protuning_mm.backbones.delta_loading import tuned_backbones
from protuning_mm.backbones.protuned_resnet import ProTunedResNet
from protuning_mm.backbones.tuned_backbone import TunedBackbone
from protuning_mm.stages import read_stages, register_reader

__all__ = ['ProTunedResNet', 'TunedBackbone', 'read_stages', 'register_reader', 'tuned_backbones']
