"""Linear probing: only neck and head are trained."""

from protuning_mm.registry import TUNINGS
from protuning_mm.tunings.base import Tuning


@TUNINGS.register_module('linear')
class LinearTuning(Tuning):
    """The backbone is frozen, and nothing is added."""

    combines = False
