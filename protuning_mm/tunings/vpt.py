"""Visual Prompt Tuning: learned tokens among the image's own.

Source: Jia et al., *Visual Prompt Tuning*, ECCV 2022. Shallow: the tokens enter before the first layer and walk
through all. Deep: every layer gets tokens of its own, and those of the layer before are dropped. Differs: our tokens
stand at the end of the sequence, which attention does not notice, so that class token and patches stay where the host
expects them, and no host ever sees the tokens between layers.
"""

from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.registry import TUNINGS
from protuning_mm.stages import PrefixedTokens, Stages
from protuning_mm.tunings.base import Tuning, TuningError


class _Carried:
    """Tokens on their way from one layer to the next."""

    tokens: Tensor | None = None


class _Append:
    """A forward pre-hook: puts tokens behind a layer's own."""

    def __init__(self, prompts: nn.ParameterList, i: int, carried: _Carried | None) -> None:
        self.prompts = prompts
        self.i = i
        self.carried = carried

    def __call__(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        tokens = self.prompts[self.i] if self.carried is None else self.carried.tokens
        if tokens is None:
            tokens = self.prompts[0]
        return (torch.cat((x, tokens.to(x.dtype).expand(len(x), -1, -1)), 1), *args[1:])


class _Remove:
    """A forward hook: takes the tokens away again, and keeps them where the next layer wants them."""

    def __init__(self, number: int, carried: _Carried | None, last: bool) -> None:
        self.number = number
        self.carried = carried
        self.last = last

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if self.carried is not None:
            self.carried.tokens = None if self.last else output[:, -self.number :]
        return output[:, : -self.number]


@TUNINGS.register_module('vpt')
class VPTTuning(Tuning):
    """Prompt tokens for plain vision transformers.

    Args:
        number (int): Number of tokens. Defaults to 10.
        deep (bool): Whether every layer gets its own. Defaults to False.

    Raises:
        TuningError: the backbone is no plain vision transformer. Swin is none: the position bias of its windows is
            made for their own tokens alone.
    """

    child = 'vpt'
    identity_at_init = False

    def __init__(self, number: int = 10, deep: bool = False) -> None:
        super().__init__()
        if not isinstance(number, int) or number < 1:
            raise TuningError(f'vpt with number={number!r}: must be a positive whole number of tokens')
        self.number = number
        self.deep = deep

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        if not isinstance(stages.layout, PrefixedTokens):
            raise TuningError(
                f'vpt needs a plain vision transformer, whose layers all see one sequence of tokens; '
                f"{type(backbone).__name__} is none: use 'pro', or 'adapter' for a Swin"
            )
        blocks = stages.blocks
        shape = (1, self.number, stages.channels[0])
        prompts = nn.ParameterList([nn.Parameter(torch.empty(shape)) for _ in (blocks if self.deep else blocks[:1])])
        self.added = nn.ModuleList([prompts])
        self.init_weights()
        carried = None if self.deep else _Carried()
        for i, block in enumerate(blocks):
            layer = backbone.get_submodule(block.path)
            layer.register_forward_pre_hook(_Append(prompts, i, carried))
            layer.register_forward_hook(_Remove(self.number, carried, last=i == len(blocks) - 1))

    def init_weights(self) -> None:
        """Small random tokens; Jia et al. draw them uniformly, from a range that depends on the patches."""
        for prompt in self.added.parameters():  # type: ignore[union-attr]
            nn.init.trunc_normal_(prompt, std=0.02)
