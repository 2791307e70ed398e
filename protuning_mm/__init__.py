"""Pro-Tuning for MMDetection, MMSegmentation and MMPretrain: a frozen backbone with small trained prompt blocks.

Importing the package applies :mod:`protuning_mm.patches` and registers its two backbones in mmengine's root registry,
so that configs may name them without a prefix. Its hooks, data sets and metrics need the prefix ``protuning_mm.``.
Without mmengine, only :mod:`protuning_mm.frozen`, :mod:`protuning_mm.blocks` and :mod:`protuning_mm.stages` can be
used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from protuning_mm.version import __version__

try:
    import mmengine as _mmengine  # noqa: F401
except ImportError:
    pass
else:
    from protuning_mm import backbones as _backbones  # noqa: F401 – registers its classes
    from protuning_mm import patches

    patches.install()

if TYPE_CHECKING:
    from protuning_mm.backbones import ProTunedResNet, TunedBackbone
    from protuning_mm.blocks import PromptBlock
    from protuning_mm.cli.convert_delta import extract_delta, merge_delta
    from protuning_mm.conversion import convert_data
    from protuning_mm.deltas import load_delta, save_delta
    from protuning_mm.engine.parameter_table import count_parameters, print_trainable_parameters
    from protuning_mm.engine.use_data import use_data
    from protuning_mm.frozen import freeze_efficiently, release, report
    from protuning_mm.multitask import MultiTask
    from protuning_mm.peft_files import load_peft, save_peft
    from protuning_mm.registry import TUNINGS
    from protuning_mm.stages import register_reader
    from protuning_mm.tune_model import tune
    from protuning_mm.tunings import Tuning, TuningError

_NAMES = {
    'backbones': ('ProTunedResNet', 'TunedBackbone'),
    'blocks': ('PromptBlock',),
    'cli.convert_delta': ('extract_delta', 'merge_delta'),
    'conversion': ('convert_data',),
    'deltas': ('load_delta', 'save_delta'),
    'engine.parameter_table': ('count_parameters', 'print_trainable_parameters'),
    'engine.use_data': ('use_data',),
    'frozen': ('freeze_efficiently', 'release', 'report'),
    'multitask': ('MultiTask',),
    'peft_files': ('load_peft', 'save_peft'),
    'registry': ('TUNINGS',),
    'stages': ('register_reader',),
    'tune_model': ('tune',),
    'tunings': ('Tuning', 'TuningError'),
}

__all__ = [
    'TUNINGS',
    'MultiTask',
    'ProTunedResNet',
    'PromptBlock',
    'TunedBackbone',
    'Tuning',
    'TuningError',
    '__version__',
    'convert_data',
    'count_parameters',
    'extract_delta',
    'freeze_efficiently',
    'load_delta',
    'load_peft',
    'merge_delta',
    'print_trainable_parameters',
    'register_reader',
    'release',
    'report',
    'save_delta',
    'save_peft',
    'tune',
    'use_data',
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    for module, names in _NAMES.items():
        if name in names:
            return getattr(import_module(f'{__name__}.{module}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
