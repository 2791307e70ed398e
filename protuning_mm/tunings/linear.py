"""Linear probing: only the neck and the head are trained."""

from protuning_mm.registry import TUNINGS
from protuning_mm.tunings.base import Tuning


@TUNINGS.register_module('linear')
class LinearTuning(Tuning):
    """Freezes the backbone and adds nothing."""

    combines = False
