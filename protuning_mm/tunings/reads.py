"""An update for a linear layer that is never called, because another module multiplies by its weight itself.

The attention of timm's BEiT, EVA-02 and Swin V2 calls ``F.linear(x, self.qkv.weight, bias)`` with a bias that it puts
together: a forward hook of ``qkv`` never runs there.
"""

from typing import Any

from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Reads(TorchFunctionMode):
    """While it is entered, a product with a layer's weight gets what was added to that layer.

    It keeps nothing between calls, and torch's stack of modes is each thread's own.

    Args:
        layer (nn.Linear): The layer whose weight is read.
        added (nn.Module): Maps a product's input and result to what takes the result's place.
    """

    def __init__(self, layer: nn.Module, added: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.added = added

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        if func is not F.linear:
            return y
        given = {**dict(zip(('input', 'weight'), args)), **(kwargs or {})}
        return self.added(given['input'], y) if given['weight'] is self.layer.weight else y

    def enter(self, reader: nn.Module, args: Any) -> None:
        """A forward pre-hook for the module that reads the weight."""
        self.__enter__()  # type: ignore[no-untyped-call]

    def leave(self, reader: nn.Module, args: Any, output: Any) -> None:
        """A forward hook for it, to be called always."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
