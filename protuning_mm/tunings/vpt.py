"""Visual Prompt Tuning: learned tokens in the sequence of image tokens.

Source: Jia et al., *Visual Prompt Tuning*, ECCV 2022. Shallow: the tokens are inserted before the first layer and pass
through all layers. Deep: every layer gets its own tokens, and those of the previous layer are dropped. Differs from the
paper: the tokens are appended to the end of the sequence, to which attention is invariant. Class token and patches thus
stay where the host expects them. The tokens are removed between layers, so that the host's code never sees them. Rotary
position embeddings of timm (DINOv3, EVA-02) do not rotate them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from protuning_mm.registry import TUNINGS
from protuning_mm.stages import PrefixedTokens, Stages
from protuning_mm.tunings.base import Tuning, TuningError


class _Carried:
    """The tokens passed from one layer to the next."""

    tokens: Tensor | None = None


class _LayerHooks:
    """Two hooks of a layer: one appends tokens to its input, the other removes them from its output.

    Args:
        prompts (nn.ParameterList): The learned tokens.
        i (int): Index of the layer.
        carried (_Carried, optional): The tokens of the previous layer; None if every layer has its own.
        last (bool): Whether the layer is the last one.
    """

    def __init__(self, prompts: nn.ParameterList, i: int, carried: _Carried | None, last: bool) -> None:
        self.prompts = prompts
        self.i = i
        self.carried = carried
        self.last = last

    def append(
        self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        x = args[0]
        tokens = self.prompts[self.i] if self.carried is None else self.carried.tokens
        if tokens is None:
            tokens = self.prompts[0]
        if isinstance(kwargs.get('rope'), Tensor):
            kwargs = dict(kwargs, rope=_extend_rope(kwargs['rope'], tokens.shape[1]))
        return (torch.cat((x, tokens.to(x.dtype).expand(len(x), -1, -1)), 1), *args[1:]), kwargs

    def remove(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        number = self.prompts[0].shape[1]
        if self.carried is not None:
            self.carried.tokens = None if self.last else output[:, -number:]
        return output[:, :-number]


def _extend_rope(rope: Tensor, number: int) -> Tensor:
    """Extend rotary position embeddings of timm by rows that rotate nothing: the tokens have no position.

    Args:
        rope (Tensor): (…, L, 2 D), the sines and then the cosines for L patches.
        number (int): Number of tokens.
    """
    sine, cosine = rope[..., :1, :].chunk(2, -1)
    still = torch.cat((torch.zeros_like(sine), torch.ones_like(cosine)), -1)
    return torch.cat((rope, still.expand(*still.shape[:-2], number, -1)), -2)


@TUNINGS.register_module('vpt')
class VPTTuning(Tuning):
    """Prompt tokens for plain vision transformers.

    Args:
        number (int): Number of tokens. Defaults to 10.
        deep (bool): Whether every layer gets its own tokens. Defaults to False.

    Raises:
        TuningError: ``number`` is not a positive integer, or the backbone is not a plain vision transformer. Swin is
            not supported, because the position bias of its windows does not cover additional tokens.
    """

    child = 'vpt'
    identity_at_init = False

    def __init__(self, number: int = 10, deep: bool = False) -> None:
        super().__init__()
        if not isinstance(number, int) or number < 1:
            raise TuningError(f'vpt with number={number!r}: number must be a positive integer, the count of tokens')
        self.number = number
        self.deep = deep

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        if not isinstance(stages.layout, PrefixedTokens):
            raise TuningError(
                f'vpt needs a plain vision transformer, whose layers all take the same sequence of tokens, but got '
                f"{type(backbone).__name__}: use 'pro', or 'adapter' for a Swin"
            )
        blocks = stages.blocks
        shape = (1, self.number, stages.channels[0])
        prompts = nn.ParameterList([nn.Parameter(torch.empty(shape)) for _ in (blocks if self.deep else blocks[:1])])
        self.added = nn.ModuleList([prompts])
        self.init_weights()
        carried = None if self.deep else _Carried()
        for i, block in enumerate(blocks):
            layer = backbone.get_submodule(block.path)
            hooks = _LayerHooks(prompts, i, carried, last=i == len(blocks) - 1)
            layer.register_forward_pre_hook(hooks.append, with_kwargs=True)
            layer.register_forward_hook(hooks.remove)

    def init_weights(self) -> None:
        """Initialize the tokens with small random values.

        Jia et al. draw them from a uniform distribution whose range depends on the patch size.
        """
        for prompt in self.added.parameters():  # type: ignore[union-attr]
            nn.init.trunc_normal_(prompt, std=0.02)
