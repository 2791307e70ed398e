"""Mona: two adapters in every transformer layer, one after each residual sum.

Source: Yin et al., arXiv 2408.08345 (CVPR 2025); see :class:`~protuning_mm.blocks.Mona`. The paper tunes Swin. For
plain vision transformers, the adapters act on the map of the patch tokens, and prefix tokens stay as they are; that is
our choice. If a network returns only prefix tokens, what the last layer's adapters add would not reach the head; its
mean over the patches is therefore added to these tokens, as in Pro-Tuning.
"""

from typing import Any

from torch import Tensor, nn

from protuning_mm.blocks import Mona
from protuning_mm.registry import TUNINGS
from protuning_mm.stages import PrefixedTokens, Stages
from protuning_mm.stages.layouts import Maps
from protuning_mm.stages.patch_grid import PatchGrid
from protuning_mm.tunings.base import Tuning, TuningError, current_thread


class _LayerHooks:
    """Hooks of a layer x -> y = u + mlp(norm(u)), u = x + branch: u and y pass through an adapter.

    Args:
        middle (nn.Module): The adapter of u.
        end (nn.Module): The adapter of y.
        layout (Maps): Layout of the features.
        grid (PatchGrid): The grid of patches.
    """

    def __init__(self, middle: nn.Module, end: nn.Module, layout: Maps, grid: PatchGrid) -> None:
        self.middle = middle
        self.end = end
        self.layout = layout
        self.grid = grid
        self._inputs: dict[int, tuple[Any, ...]] = {}

    def enter(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        """Keep the arguments of the layer."""
        self._inputs[current_thread()] = args

    def after_branch(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Return the branch's output plus what the adapter adds to u."""
        branch = output[0] if isinstance(output, tuple) else output
        layer_args = self._inputs[current_thread()]
        u = layer_args[0] + branch
        changed = branch + (self._adapt(self.middle, u, layer_args) - u)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    def leave(self, layer: nn.Module, args: tuple[Any, ...], y: Tensor) -> Tensor:
        """Return y, changed by its adapter."""
        del self._inputs[current_thread()]
        return self._adapt(self.end, y, args)

    def _adapt(self, adapter: nn.Module, x: Tensor, layer_args: tuple[Any, ...]) -> Tensor:
        x_map = self.layout.to_map(x, self.layout.grid(layer_args, self.grid.now))
        return self.layout.from_map(adapter(x_map), x)


@TUNINGS.register_module('mona')
class MonaTuning(Tuning):
    """Two adapters with depth-wise convolutions in every transformer layer.

    Args:
        hidden (int): Width of the bottlenecks. Defaults to 64.
        dropout (float): Dropout inside the adapters. Defaults to 0.1.

    Raises:
        TuningError: ``hidden`` is no positive integer, or a block has no attention (convolutional networks).
    """

    child = 'mona'
    recomputable = False  # an adapter needs its layer's input, which a hook of the layer keeps during the forward pass

    def __init__(self, hidden: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        if not isinstance(hidden, int) or hidden < 1:
            raise TuningError(f'mona with hidden={hidden!r}: hidden must be a positive integer')
        self.hidden = hidden
        self.dropout = dropout

    def setup(self, backbone: nn.Module, stages: Stages) -> None:
        grid = PatchGrid()
        if isinstance(stages.layout, PrefixedTokens):
            grid.size = stages.layout.size
            backbone.get_submodule(stages.layout.embedding).register_forward_hook(grid)
        self.added = nn.ModuleDict()
        for stage in stages.stages:
            for block in stage.blocks:
                if block.attention is None:
                    raise TuningError(
                        f"mona needs transformer layers, and {block.path} has no attention: use 'conv_adapter'"
                    )
                layer = backbone.get_submodule(block.path)
                key = block.path.replace('.', '_')
                middle, end = (Mona(stage.channels, self.hidden, self.dropout) for _ in range(2))
                self.added.update({f'{key}_attention': middle, f'{key}_mlp': end})
                layout = stages.layout.last if block is stages.blocks[-1] else stages.layout
                hooks = _LayerHooks(middle, end, layout, grid)
                layer.register_forward_pre_hook(hooks.enter)
                _branch_end(backbone, layer, block.attention).register_forward_hook(hooks.after_branch)
                layer.register_forward_hook(hooks.leave)


def _branch_end(backbone: nn.Module, layer: nn.Module, attention: str) -> nn.Module:
    """Return the last module of the attention branch: timm's layers scale and drop the attention's output.

    So does mmcv's wrapper of ``torch.nn.MultiheadAttention``, which then adds the residual itself.
    """
    wrapper = backbone.get_submodule(attention.rpartition('.')[0])
    ends = (getattr(layer, 'drop_path1', None), getattr(wrapper, 'dropout_layer', None))
    return next((end for end in ends if isinstance(end, nn.Module)), backbone.get_submodule(attention))
