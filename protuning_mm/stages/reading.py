"""Reading of any backbone as stages."""

from torch import nn

from protuning_mm.stages.readers import find_reader
from protuning_mm.stages.structure import Stages
from protuning_mm.stages.traced import read_traced


def read_stages(backbone: nn.Module, num_stages: int = 4) -> Stages:
    """Read a backbone as stages.

    A class without a reader is read by a trial run (:func:`~.traced.read_traced`).

    Args:
        backbone (nn.Module): A backbone of the host libraries or timm, or another network.
        num_stages (int): Number of stages into which to divide a plain transformer. Networks that have stages keep
            theirs. Defaults to 4.

    Raises:
        ReadingError: the class's reader cannot read this backbone, or it has none and its modules do not run in
            sequence.
    """
    return (find_reader(backbone) or read_traced)(backbone, num_stages)
