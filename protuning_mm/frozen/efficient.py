"""Another forward for one module, which hands over to the class's own where anything is not as it should be."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import nn

from protuning_mm.frozen.anatomy import ObstacleError


class EfficientForward(ABC):
    """Stands in the ``forward`` of one module's instance.

    It does not keep the module alive, and a deep copy or a pickle of the module has its own, without what was cached.

    Args:
        module (nn.Module): The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = weakref.ref(module)
        module.__dict__['forward'] = self

    def __getstate__(self) -> dict[str, Any]:
        return {'module': self.module}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._module = weakref.ref(state['module'])

    @property
    def module(self) -> Any:
        """The module that this is the forward of."""
        module = self._module()
        assert module is not None, 'the module of this forward is gone'
        return module

    def plain(self, *args: Any, **kwargs: Any) -> Any:
        """The forward of the module's class."""
        module = self.module
        return type(module).forward(module, *args, **kwargs)

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns."""

    @abstractmethod
    def refold(self) -> None:
        """Forget what was folded."""

    def covers(self) -> Iterable[nn.Module]:
        """The modules whose work this does."""
        return (self.module,)

    @abstractmethod
    def check(self) -> Any:
        """Look at the module as it is now; raise ObstacleError where the plain path is to be taken, and say why."""

    def obstacle(self) -> str | None:
        """Why the plain path is taken now; None where it is not."""
        try:
            self.check()
        except ObstacleError as why:
            return str(why)
        return None
