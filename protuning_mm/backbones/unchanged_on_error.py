"""Leaves a network as it was if changing it fails."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def unchanged_on_error(network: nn.Module) -> Iterator[None]:
    """Undo what the block did to a network's modules if it raises an error: children, hooks, attributes and gradients.

    The values of tensors are not restored.
    """
    attributes = [(module, {key: _copy(value) for key, value in vars(module).items()}) for module in network.modules()]
    trained = [(param, param.requires_grad) for param in network.parameters()]
    try:
        yield
    except BaseException:
        for module, before in attributes:
            vars(module).clear()
            vars(module).update(before)
        for param, requires_grad in trained:
            param.requires_grad_(requires_grad)
        raise


def _copy(value: Any) -> Any:
    """Copy a table, such as that of a module's children; anything else is kept."""
    return copy.copy(value) if isinstance(value, dict | set) else value
