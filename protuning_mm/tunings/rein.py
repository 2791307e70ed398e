"""Rein: learned tokens refine the features that one transformer layer passes to the next.

Source: Wei et al., *Stronger, Fewer, & Superior: Harnessing Vision Foundation Models for Domain Generalized Semantic
Segmentation*, CVPR 2024 (arXiv 2312.04265), equations 3 to 7, with tokens as low-rank products and two linear layers
that all transformer layers share. Left out: the link from the tokens to the object queries of a decoder. The initial
values are our choice: the last linear layer is zero, so the network starts as the plain one.
"""

from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.registry import TUNINGS
from protuning_mm.stages import PrefixedTokens, Stages
from protuning_mm.tunings.base import Tuning, TuningError


class Rein(nn.Module):
    """x + W_f (Δ + x) + b_f with Δ = S (T W_T + b_T), where S is the softmax of x Tᵀ / √C over the tokens T of a layer.

    The first token takes part in the softmax only, so that a feature may ignore the others.

    Args:
        channels (int): Channels C of the tokens.
        layers (int): Number of transformer layers.
        number (int): Number m of learned tokens of each layer.
        rank (int): Rank r of T = A B.

    Shape:
        - Input: (N, L, C)
        - Output: (N, L, C)
    """

    def __init__(self, channels: int, layers: int, number: int, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(layers, number, rank))
        self.b = nn.Parameter(torch.empty(layers, rank, channels))
        self.tokens = nn.Linear(channels, channels)
        self.features = nn.Linear(channels, channels)
        self.init_weights()

    def init_weights(self) -> None:
        for factor in (self.a, self.b):
            nn.init.normal_(factor, std=factor.shape[-2] ** -0.5 if factor is self.b else 1.0)
        self.tokens.reset_parameters()
        nn.init.zeros_(self.features.weight)
        nn.init.zeros_(self.features.bias)

    def forward(self, x: Tensor, i: int) -> Tensor:
        tokens = self.a[i] @ self.b[i]
        similarity = (x @ tokens.T / x.shape[-1] ** 0.5).softmax(-1)
        delta = similarity[..., 1:] @ self.tokens(tokens[1:])
        out: Tensor = x + self.features(delta + x)
        return out


class _LayerHook:
    """Refines the patch tokens of a layer's output."""

    def __init__(self, rein: Rein, i: int, prefix: int) -> None:
        self.rein, self.i, self.prefix = rein, i, prefix

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        patches = self.rein(output[:, self.prefix :], self.i)
        return torch.cat((output[:, : self.prefix], patches), 1) if self.prefix else patches


@TUNINGS.register_module('rein')
class ReinTuning(Tuning):
    """Tokens that refine the output of every layer of a plain vision transformer.

    Args:
        number (int): Number of tokens of each layer. Defaults to 100.
        rank (int): Rank of the tokens. Defaults to 16.

    Raises:
        TuningError: ``number`` is less than 2, ``rank`` less than 1, or the backbone is not a plain vision transformer.
    """

    child = 'rein'

    def __init__(self, number: int = 100, rank: int = 16) -> None:
        super().__init__()
        if not isinstance(number, int) or number < 2:
            raise TuningError(f'rein with number={number!r}: number must be an integer from 2, the count of tokens')
        if not isinstance(rank, int) or rank < 1:
            raise TuningError(f'rein with rank={rank!r}: rank must be a positive integer')
        self.number = number
        self.rank = rank

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        layout = stages.layout
        if not isinstance(layout, PrefixedTokens):
            raise TuningError(
                f'rein needs a plain vision transformer, but got {type(backbone).__name__}: '
                "use 'pro', or 'adapter' for a Swin"
            )
        rein = Rein(stages.channels[0], len(stages.blocks), self.number, self.rank)
        self.added = nn.ModuleList([rein])
        for i, block in enumerate(stages.blocks):
            backbone.get_submodule(block.path).register_forward_hook(_LayerHook(rein, i, layout.prefix))
