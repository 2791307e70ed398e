"""An optimizer constructor that only includes trained parameters."""

from collections.abc import Iterator
from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from protuning_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


class _Trainable(nn.Module):
    """A view of a model whose ``parameters()`` only yields trained parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._modules = model._modules
        self._parameters = model._parameters

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return (param for param in super().parameters(recurse) if param.requires_grad)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TrainableOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's default constructor, for models that are mostly frozen.

    The default constructor adds frozen parameters to the optimizer, and with ``paramwise_cfg`` it warns once for each
    of them. ``paramwise_cfg`` works as in the default constructor.

    Raises:
        ValueError: the model has no trained parameter.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        model = getattr(model, 'module', model)
        if not any(param.requires_grad for param in model.parameters()):
            raise ValueError(f'{type(model).__name__} has no trained parameter: all have requires_grad=False')
        return super().__call__(_Trainable(model))

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, *args: Any, **kwargs: Any) -> None:
        if any(param.requires_grad for param in module.parameters()):
            super().add_params(params, module, *args, **kwargs)
