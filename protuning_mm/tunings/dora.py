"""DoRA: low-rank updates of weights whose magnitude is trained apart from their direction.

Source: Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, ICML 2024 (arXiv 2402.09353), equation 5 for linear
layers; as in its section 4.3, the norm of the updated weight is a constant for the gradient. Our choice: the magnitude
is trained as a factor of the frozen weight's norm, the norm is that of an output channel, and convolutions get the
update that :mod:`~protuning_mm.tunings.lora` gives them.
"""

from torch import nn

from protuning_mm.blocks import DecomposedLowRank
from protuning_mm.registry import TUNINGS
from protuning_mm.tunings.base import TuningError
from protuning_mm.tunings.lora import LoRATuning


@TUNINGS.register_module('dora')
class DoRATuning(LoRATuning):
    """A low-rank update and a magnitude per output channel of every linear layer and convolution of the blocks.

    Arguments and errors are those of :class:`~protuning_mm.tunings.lora.LoRATuning`.
    """

    child = 'dora'

    def make_update(self, layer: nn.Linear | nn.Conv2d) -> nn.Module:
        return DecomposedLowRank(layer, self.rank, self.alpha / self.rank)

    def merge(self, backbone: nn.Module) -> None:
        for path, user in self.weight_users.items():
            raise TuningError(
                f'dora cannot be merged: {user!r} uses the weight of {path!r} directly and adds its own bias, '
                'which the magnitude multiplies too'
            )
        super().merge(backbone)
