"""The structure of a backbone: a stem and an ordered list of stages of blocks, given by module paths.

Because it contains paths and no modules, it stays valid for a deep copy of the backbone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from protuning_mm.stages.layouts import Maps


class SettingError(ValueError):
    """A setting of a backbone is wrong; the message names the setting and says how to correct it."""


class ReadingError(TypeError):
    """No reader (a function registered by ``register_reader``) can divide the backbone into stages."""


@dataclass(frozen=True)
class Block:
    """A residual block or a transformer layer.

    Args:
        path (str): Module path in the backbone.
        attention (str, optional): Path of the module that computes the attention branch before the residual sum. The
            module returns a tensor (N, L, C), or a tuple whose first element is this tensor.
        mlp (str, optional): Path of the module that computes the MLP branch before the residual sum. Its
            output has the same form.
        conv (str, optional): Path of the block's spatial convolution, which maps (N, C, H, W) to (N, C', H', W').
    """

    path: str
    attention: str | None = None
    mlp: str | None = None
    conv: str | None = None


@dataclass(frozen=True)
class Stage:
    """A stage, given by the paths of its modules.

    Args:
        modules (tuple[str]): Paths of the stage's modules, in order. Called in sequence on the feature of the previous
            stage, they compute the feature of this stage. Downsampling between two stages belongs to the second one.
        blocks (tuple[Block]): The stage's blocks, in order; they are part of its modules.
        end (str): Path of the module whose output is the stage's feature, which feeds the next stage.
        channels (int): Channels C_i of the stage's feature.
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
        outs (tuple[int]): For each output of the backbone, the index of the stage that it comes from.
        layout (Maps): Describes how the stages' features are laid out, and converts them to feature maps (N, C, H, W).
            Defaults to ``Maps``, for features that already are feature maps; the other layouts inherit from it.
        run (Callable, optional): Takes the backbone and an image, and returns the outputs. Defaults to the backbone's
            forward.
        convert (Callable, optional): Converts a state dict published for this architecture to the keys and shapes of
            the backbone; it takes the backbone and the state dict.
        optional_keys (tuple[str]): Key prefixes of tensors that exist only for dense tasks; pre-trained files usually
            lack these tensors. Loading such a file leaves them at the host's initial values; any other missing tensor
            is an error.
        pooled_channels (int, optional): Channels of the pooled output, if layers after the last stage change them.
            Defaults to the last stage's.
        unused_keys (tuple[str]): Key prefixes of parameters that no output depends on; no tuning trains them.
        in_sequence (bool): Whether each stage's modules, called in order on the feature of the previous stage, compute
            its feature. Defaults to True.
    """

    stages: tuple[Stage, ...]
    outs: tuple[int, ...]
    layout: Maps = field(default_factory=Maps)
    run: Callable[[nn.Module, Tensor], Any] | None = None
    convert: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]] | None = None
    optional_keys: tuple[str, ...] = ()
    pooled_channels: int | None = None
    unused_keys: tuple[str, ...] = ()
    in_sequence: bool = True

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels C_i of each stage's feature."""
        return tuple(stage.channels for stage in self.stages)

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Channels of each output."""
        return tuple(self.pooled_channels or self.stages[i].channels for i in self.outs)

    def up_to_last_out(self) -> 'Stages':
        """Return a copy without the stages after the last output; their keys are added to ``unused_keys``."""
        kept, dropped = self.stages[: max(self.outs) + 1], self.stages[max(self.outs) + 1 :]
        idle = tuple(f'{path}.' for stage in dropped for path in stage.modules)
        return replace(self, stages=kept, unused_keys=self.unused_keys + idle)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Every block of the network, in order."""
        return tuple(block for stage in self.stages for block in stage.blocks)


def split_evenly(count: int, groups: int) -> list[tuple[int, int]]:
    """Return begin and end of each group when ``count`` things are divided into groups that differ by at most one.

    The last groups are the longer ones.
    """
    return list(pairwise(i * count // groups for i in range(groups + 1)))


def stage_indices(key: str, indices: Sequence[int], num_stages: int, suffix: str = '') -> tuple[int, ...]:
    """Check that ``indices`` are distinct stage indices.

    Args:
        key (str): Config key of the setting, for the error message.
        indices (Sequence[int]): The indices.
        num_stages (int): Number of stages.
        suffix (str): Text that follows the number of stages in the error message. Defaults to an empty text.

    Raises:
        SettingError: an index is out of range or repeated.
    """
    shown = indices if isinstance(indices, Sequence) else repr(indices)
    if (
        not isinstance(indices, Sequence)
        or not all(isinstance(i, int) and 0 <= i < num_stages for i in indices)
        or len(set(indices)) < len(indices)
    ):
        raise SettingError(
            f'{key}={shown}: must contain distinct stage indices from 0 to {num_stages - 1}, '
            f'because the backbone has {num_stages} stages{suffix}'
        )
    return tuple(indices)


def out_stages(out_indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Return ``out_indices`` as non-negative indices; negative ones count from the last stage.

    Raises:
        SettingError: an index is out of range.
    """
    try:
        return tuple(range(num_stages)[i] for i in out_indices)
    except (TypeError, IndexError):
        right = tuple(range(num_stages))
        raise SettingError(
            f'out_indices={out_indices!r}: must contain stage indices from 0 to {num_stages - 1} (or from '
            f'{-num_stages} to -1), because the backbone has {num_stages} stages. The stem is not a stage, even where '
            f'timm lists it as feature 0: '
            f'out_indices={right} selects all stages'
        ) from None
