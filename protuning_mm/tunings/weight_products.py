"""Modules added to a linear layer whose forward is never called, because another module uses its weight directly.

The attention of timm's BEiT, EVA-02 and Swin V2 calls ``F.linear(x, self.qkv.weight, bias)`` with a bias that it
assembles itself, so a forward hook of ``qkv`` never runs.
"""

from typing import Any

from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class WeightProductMode(TorchFunctionMode):
    """A torch function mode that replaces the result y of a product with a layer's weight by ``added(x, y)``.

    It has no state, and torch's stack of modes is thread-local.

    Args:
        layer (nn.Linear): The layer whose weight another module uses.
        added (nn.Module): Computes the new result from the product's input x and its result y.
    """

    def __init__(self, layer: nn.Module, added: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.added = added

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = func(*args, **(kwargs or {}))
        if func is not F.linear:
            return y
        call = {**dict(zip(('input', 'weight'), args)), **(kwargs or {})}
        return self.added(call['input'], y) if call['weight'] is self.layer.weight else y

    def enter(self, user: nn.Module, args: Any) -> None:
        """Enter the mode; a forward pre-hook of the module that reads the weight."""
        self.__enter__()  # type: ignore[no-untyped-call]

    def leave(self, user: nn.Module, args: Any, output: Any) -> None:
        """Leave the mode; a forward hook of the same module, to be registered with ``always_call=True``."""
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]
