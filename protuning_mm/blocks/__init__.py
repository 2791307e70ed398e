"""Modules that tunings add to a frozen network. Depends on torch only."""

from protuning_mm.blocks.adapters import (
    Adapter,
    ChannelFactors,
    ConvAdapter,
    DecomposedLowRank,
    LowRank,
    ParallelAdapter,
    ScaleShift,
)
from protuning_mm.blocks.mona import Mona
from protuning_mm.blocks.prompt_block import PromptBlock
from protuning_mm.blocks.rung import Rung
from protuning_mm.blocks.side_network import SideNetwork

__all__ = [
    'Adapter',
    'ChannelFactors',
    'ConvAdapter',
    'DecomposedLowRank',
    'LowRank',
    'Mona',
    'ParallelAdapter',
    'PromptBlock',
    'Rung',
    'ScaleShift',
    'SideNetwork',
]
