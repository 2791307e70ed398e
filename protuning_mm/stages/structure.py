"""How a backbone is read: a stem, and an ordered list of stages of blocks, each named by its module path.

A reading is names alone: the backbone's own forward does the work, and what a tuning does is hooked to the modules that
are named here. It holds no module, so that it means the same in a deep copy.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn


class SettingError(ValueError):
    """A setting of a backbone is wrong; the message names it, what was found and what would be right."""


class ReadingError(TypeError):
    """A backbone cannot be read as stages."""


@dataclass(frozen=True)
class Block:
    """A residual block or a transformer layer.

    Args:
        path (str): Module path in the backbone.
        attention (str, optional): The module whose output is the attention branch's, (N, L, C) or a tuple that begins
            with it, before the residual sum.
        mlp (str, optional): The same for the MLP branch.
        conv (str, optional): The block's spatial convolution, (N, C, H, W) in and out.
    """

    path: str
    attention: str | None = None
    mlp: str | None = None
    conv: str | None = None


@dataclass(frozen=True)
class Stage:
    """A stage.

    Args:
        modules (tuple[str]): Paths of its modules, in order.
        blocks (tuple[Block]): Its blocks, in order; they lie in its modules.
        end (str): Path of the module whose output is the stage's feature, which feeds the next stage.
        channels (int): Channels C_i of that feature.
    """

    modules: tuple[str, ...]
    blocks: tuple[Block, ...]
    end: str
    channels: int


class Maps:
    """Features are maps: (N, C, H, W)."""

    def to_map(self, feature: Tensor, args: tuple[Any, ...]) -> Tensor:
        """Show a stage's feature as a map.

        Args:
            feature (Tensor): What the stage's last module returned.
            args (tuple): What it was called with.

        Returns:
            Tensor: (N, C, H, W).
        """
        return feature

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        """Put a map back in the place of ``feature``."""
        return x

    @property
    def last(self) -> 'Maps':
        """The layout of the last stage's feature."""
        return self


class MapsLast(Maps):
    """Features are maps with channels last: (N, H, W, C)."""

    def to_map(self, feature: Tensor, args: tuple[Any, ...]) -> Tensor:
        return feature.permute(0, 3, 1, 2)

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class SizedTokens(Maps):
    """Features are tokens (N, H W, C), and every block is called with their (H, W)."""

    def to_map(self, feature: Tensor, args: tuple[Any, ...]) -> Tensor:
        height, width = args[1]
        return feature.transpose(1, 2).reshape(len(feature), -1, height, width)

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class PrefixedTokens(Maps):
    """Features are tokens (N, P + H W, C): P prefix tokens, which stay as they are, and a grid.

    The grid's size is known where patches are embedded; :meth:`watch` notes it there.

    Args:
        prefix (int): P.
        embedding (str): Path of the module that embeds the patches.
        size (Callable): Tells (H, W) of the grid from that module, what it was called with and what it returned.
        prefix_only (bool): Whether the backbone returns prefix tokens alone, as classifiers do. What is done to the
            last stage's patches would be lost then, so its mean is done to the prefix tokens. Defaults to False.
    """

    def __init__(
        self,
        prefix: int,
        embedding: str,
        size: Callable[[nn.Module, Any, Any], tuple[int, int]],
        prefix_only: bool = False,
    ) -> None:
        self.prefix = prefix
        self.prefix_only = prefix_only
        self.embedding = embedding
        self.size = size
        self.grid: tuple[int, int] = (0, 0)

    def watch(self, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook for the module that embeds the patches."""
        height, width = self.size(module, args, output)
        self.grid = (height, width)

    def to_map(self, feature: Tensor, args: tuple[Any, ...]) -> Tensor:
        return feature[:, self.prefix :].transpose(1, 2).reshape(len(feature), -1, *self.grid)

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return tokens if self.prefix == 0 else torch.cat((feature[:, : self.prefix], tokens), 1)

    @property
    def last(self) -> Maps:
        return _ToPrefix(self) if self.prefix_only else self


class _ToPrefix(Maps):
    """The last stage of a backbone that returns prefix tokens alone."""

    def __init__(self, tokens: PrefixedTokens) -> None:
        self.tokens = tokens

    def to_map(self, feature: Tensor, args: tuple[Any, ...]) -> Tensor:
        return self.tokens.to_map(feature, args)

    def from_map(self, x: Tensor, feature: Tensor) -> Tensor:
        whole = self.tokens.from_map(x, feature)
        n = self.tokens.prefix
        added = (whole[:, n:] - feature[:, n:]).mean(1, keepdim=True)
        return torch.cat((whole[:, :n] + added, whole[:, n:]), 1)


@dataclass(frozen=True)
class Stages:
    """A backbone read as ``image -> stem -> stage 1 -> … -> stage n``.

    Args:
        stages (tuple[Stage]): The stages, in order.
        outs (tuple[int]): For each of the backbone's outputs, the stage that it comes from.
        layout (Maps): What a stage's feature looks like, and how it becomes a map.
        run (Callable, optional): Maps the backbone and an image to what the backbone returns, where that is not its
            forward.
        convert (Callable, optional): Maps the backbone and a state dict in a layout that is published for it to the
            backbone's own keys and sizes.
        unfilled (tuple[str]): Beginnings of the keys of tensors that no pre-trained file has, because they are made for
            dense tasks: where the file lacks them they keep the host's initial values.
        unused (tuple[str]): Beginnings of the keys of parameters that no output depends on; no tuning trains them.
    """

    stages: tuple[Stage, ...]
    outs: tuple[int, ...]
    layout: Maps = field(default_factory=Maps)
    run: Callable[[nn.Module, Tensor], Any] | None = None
    convert: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]] | None = None
    unfilled: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels C_i of each stage's feature."""
        return tuple(stage.channels for stage in self.stages)

    def up_to_last_out(self) -> 'Stages':
        """The same without stages that no output depends on."""
        kept, left = self.stages[: max(self.outs) + 1], self.stages[max(self.outs) + 1 :]
        idle = tuple(f'{path}.' for stage in left for path in stage.modules)
        return replace(self, stages=kept, unused=self.unused + idle)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block of the network, in order."""
        return tuple(block for stage in self.stages for block in stage.blocks)


def split(items: Sequence[Any], parts: int) -> list[Sequence[Any]]:
    """Cut ``items`` into ``parts`` runs whose lengths differ by one at most, longer ones last."""
    bounds = [i * len(items) // parts for i in range(parts + 1)]
    return [items[a:b] for a, b in itertools.pairwise(bounds)]


def stage_indices(key: str, indices: Sequence[int], num_stages: int, counted: str = '') -> tuple[int, ...]:
    """Check that ``indices`` number stages of a network of ``num_stages``; ``counted`` says which those are.

    Raises:
        SettingError: names ``key``, what was written and what would be right.
    """
    written = indices if isinstance(indices, Sequence) else repr(indices)
    if (
        not isinstance(indices, Sequence)
        or not all(isinstance(i, int) and 0 <= i < num_stages for i in indices)
        or len(set(indices)) < len(indices)
    ):
        raise SettingError(
            f'{key}={written}: must number stages from 0 to {num_stages - 1}, each once, '
            f'because the backbone has {num_stages} stages{counted}'
        )
    return tuple(indices)


def out_stages(out_indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """The stages that ``out_indices`` name; negative ones count from the end.

    Raises:
        SettingError: there are no such stages.
    """
    try:
        return tuple(range(num_stages)[i] for i in out_indices)
    except (TypeError, IndexError):
        right = tuple(range(num_stages))
        raise SettingError(
            f'out_indices={out_indices!r}: must number stages from 0 to {num_stages - 1}, because the backbone has '
            f'{num_stages} stages. The stem is none of them (timm counts it as 0): out_indices={right} names them all'
        ) from None
