"""The structure of a backbone: a stem and an ordered list of stages of blocks, each named by its module path.

It holds names and no modules, so it stays valid in a deep copy of the backbone.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from protuning_mm.stages.layouts import Maps


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
        modules (tuple[str]): Paths of its modules, in order: called one after the other they compute the stage,
            from the feature of the stage before to its own. Down-sampling between two stages belongs to the second.
        blocks (tuple[Block]): Its blocks, in order; they lie in its modules.
        end (str): Path of the module whose output is the stage's feature, which feeds the next stage.
        channels (int): Channels C_i of that feature.
    """

    modules: tuple[str, ...]
    blocks: tuple[Block, ...]
    end: str
    channels: int


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
        optional_keys (tuple[str]): Key prefixes of tensors that exist only for dense tasks. Pre-trained files do not
            contain them, so tensors missing from the file keep the host's initial values.
        unused_keys (tuple[str]): Key prefixes of parameters that no output depends on; no tuning trains them.
    """

    stages: tuple[Stage, ...]
    outs: tuple[int, ...]
    layout: Maps = field(default_factory=Maps)
    run: Callable[[nn.Module, Tensor], Any] | None = None
    convert: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]] | None = None
    optional_keys: tuple[str, ...] = ()
    unused_keys: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels C_i of each stage's feature."""
        return tuple(stage.channels for stage in self.stages)

    def up_to_last_out(self) -> 'Stages':
        """The same without stages that no output depends on."""
        kept, left = self.stages[: max(self.outs) + 1], self.stages[max(self.outs) + 1 :]
        idle = tuple(f'{path}.' for stage in left for path in stage.modules)
        return replace(self, stages=kept, unused_keys=self.unused_keys + idle)

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
