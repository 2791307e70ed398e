"""Keeps the tables of rotary positions of mmpretrain's EVA-02, which belong to its state dict.

For an image of another size, the host's forward replaces the tables by others and keeps those. A frozen network would
then no longer be the pre-trained one, and a delta would not fit it.
"""

from typing import Any

from torch import Tensor, nn

from protuning_mm.frozen.block_structure import type_name

_TYPE = 'mmpretrain.models.utils.position_encoding.RotaryEmbeddingFast'


class _KeptTables:
    """Hooks of a rotary embedding, which give it back the tables of its own resolution after each call."""

    def __init__(self, module: Any) -> None:
        self.resolution = module.patch_resolution
        self.tables: tuple[Tensor, Tensor] | None = None

    def enter(self, module: Any, args: Any) -> None:
        if module.patch_resolution == self.resolution:
            self.tables = module.freqs_cos, module.freqs_sin

    def leave(self, module: Any, args: Any, output: Any) -> None:
        if module.patch_resolution != self.resolution and self.tables is not None:
            module.freqs_cos, module.freqs_sin = self.tables
            module.patch_resolution = self.resolution
        self.tables = None


def keep_rotary_tables(network: nn.Module) -> None:
    """Let the forward pass of a network leave its tables of rotary positions as they are."""
    for module in network.modules():
        if type_name(module) == _TYPE:
            kept = _KeptTables(module)
            module.register_forward_pre_hook(kept.enter)
            module.register_forward_hook(kept.leave)
