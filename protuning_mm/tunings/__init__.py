"""Methods to adapt a pre-trained backbone, one file each."""

from protuning_mm.tunings.adapter import AdapterTuning
from protuning_mm.tunings.adaptformer import AdaptFormerTuning
from protuning_mm.tunings.base import Tuning, TuningError
from protuning_mm.tunings.bias import BiasTuning
from protuning_mm.tunings.conv_adapter import ConvAdapterTuning
from protuning_mm.tunings.dora import DoRATuning
from protuning_mm.tunings.full import FullTuning
from protuning_mm.tunings.ia3 import IA3Tuning
from protuning_mm.tunings.ladder import LadderTuning
from protuning_mm.tunings.linear import LinearTuning
from protuning_mm.tunings.lora import LoRATuning
from protuning_mm.tunings.mona import MonaTuning
from protuning_mm.tunings.norm import NormTuning
from protuning_mm.tunings.partial import PartialTuning
from protuning_mm.tunings.pro import ProTuning
from protuning_mm.tunings.rein import ReinTuning
from protuning_mm.tunings.side import SideTuning
from protuning_mm.tunings.ssf import SSFTuning
from protuning_mm.tunings.vpt import VPTTuning

__all__ = [
    'AdaptFormerTuning',
    'AdapterTuning',
    'BiasTuning',
    'ConvAdapterTuning',
    'DoRATuning',
    'FullTuning',
    'IA3Tuning',
    'LadderTuning',
    'LinearTuning',
    'LoRATuning',
    'MonaTuning',
    'NormTuning',
    'PartialTuning',
    'ProTuning',
    'ReinTuning',
    'SSFTuning',
    'SideTuning',
    'Tuning',
    'TuningError',
    'VPTTuning',
]
