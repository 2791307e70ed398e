"""(IA)³: learned factors of keys, values and the hidden features of every MLP.

Source: Liu et al., *Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning*, NeurIPS
2022 (arXiv 2205.05638), section 3.3. Where queries, keys and values are one projection, the queries keep their values.
The projections inside ``torch.nn.MultiheadAttention`` (mmseg's vision transformer) cannot be scaled apart.
"""

from typing import Any

import torch
from torch import nn

from protuning_mm.blocks import ChannelFactors
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import Stages
from protuning_mm.tunings.base import Tuning, TuningError

# names of the layers that compute keys or values -> the share of their outputs that are queries
_QUERIES = {'qkv': 1 / 3, 'kv': 0.0, 'k_proj': 0.0, 'v_proj': 0.0, 'key': 0.0, 'value': 0.0, 'k': 0.0, 'v': 0.0}


@TUNINGS.register_module('ia3')
class IA3Tuning(Tuning):
    """One learned factor for each channel of the keys, the values and the hidden features of the MLPs.

    Raises:
        TuningError: a block has no MLP (convolutional networks), or no layers that compute keys and values.
    """

    child = 'ia3'

    def __init__(self) -> None:
        super().__init__()
        # path of a module that returns hidden features -> path of the layer that takes them
        self.following: dict[str, str] = {}

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        for block in stages.blocks:
            if block.attention is None or block.mlp is None:
                raise TuningError(
                    f"ia3 needs transformer layers, and {block.path} has no attention or MLP: use 'ssf' or 'lora'"
                )
            found = {name: part for name, part in _linear_layers(backbone, block.attention).items() if _is_key(name)}
            hidden = _linear_layers(backbone, block.mlp)
            for what, layers, path in (('keys and values', found, block.attention), ('an MLP', hidden, block.mlp)):
                if not layers:
                    raise TuningError(f"ia3 needs linear layers of {what}, and {path} has none: use 'ssf' or 'lora'")
            for path, layer in found.items():
                queries = round(layer.out_features * _QUERIES[path.rpartition('.')[2]])
                self.tap(backbone, path, ChannelFactors(layer.out_features - queries, queries))
            path, layer = list(hidden.items())[-1]
            before = _previous_sibling(backbone, path)
            self.following[before] = path
            self.tap(backbone, before, ChannelFactors(layer.in_features))

    @torch.no_grad()
    def merge(self, backbone: Any) -> None:
        for path, user in self.weight_users.items():
            raise TuningError(
                f'ia3 cannot be merged: {user!r} uses the weight of {path!r} directly and adds its own bias'
            )
        added: Any = self.added
        for key, path in self.tapped_paths.items():
            factors = added[key].whole()
            if path in self.following:
                backbone.get_submodule(self.following[path]).weight.mul_(factors)
                continue
            layer = backbone.get_submodule(path)
            layer.weight.mul_(factors[:, None])
            if layer.bias is not None:
                layer.bias.mul_(factors)


def _linear_layers(backbone: nn.Module, path: str) -> dict[str, nn.Linear]:
    parts = backbone.get_submodule(path).named_modules()
    return {f'{path}.{name}'.rstrip('.'): part for name, part in parts if isinstance(part, nn.Linear)}


def _is_key(path: str) -> bool:
    return path.rpartition('.')[2] in _QUERIES


def _previous_sibling(backbone: nn.Module, path: str) -> str:
    """Return the path of the module that comes before another one in their parent, whose input it computes."""
    parent, _, name = path.rpartition('.')
    children = dict(backbone.get_submodule(parent).named_children())
    position = list(children).index(name)
    before = list(children)[position - 1] if position else name
    if isinstance(children[before], nn.Linear):  # the activation is elsewhere
        raise TuningError(f"ia3 finds no hidden features before {path}: use 'ssf' or 'lora'")
    return f'{parent}.{before}'
