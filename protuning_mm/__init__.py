"""Pro-Tuning for MMDetection, MMSegmentation and MMPretrain: one frozen backbone, small trained prompt blocks.

Importing the package registers its classes (also under their bare names in mmengine's root registries), makes
``protuning_mm::`` and ``mmseg::`` work in ``_base_``, makes the hosts' checkpoint loading refuse files that would
run code, and shows their optimizer constructors a tuned backbone as its host's class.
"""

from protuning_mm import config_bridge
from protuning_mm.backbones import ProTunedResNet, TunedBackbone, register_reader
from protuning_mm.blocks import PromptBlock
from protuning_mm.engine import constructors
from protuning_mm.registry import TUNINGS
from protuning_mm.tunings import Tuning, TuningError
from protuning_mm.version import __version__
from protuning_mm.weights import doors

config_bridge.install()
doors.install()
constructors.install()

__all__ = [
    'TUNINGS',
    'ProTunedResNet',
    'PromptBlock',
    'TunedBackbone',
    'Tuning',
    'TuningError',
    '__version__',
    'register_reader',
]
