"""Base class of replacement forwards, which fall back to the class's own forward where they do not apply."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from protuning_mm.frozen.block_structure import MARKS, UnsupportedError


class EfficientForward(ABC):
    """Replaces ``forward`` of one module instance.

    It holds only a weak reference to the module. A deep copy or a pickle of the module gets its own replacement. A
    shallow copy gets none, because a replacement belongs to exactly one module.

    Args:
        module (nn.Module): The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._attach(module)

    def _attach(self, module: nn.Module) -> None:
        self._module: Callable[[], nn.Module | None] = weakref.ref(module)
        marks = zip(MARKS, (self, self._state_of_module, self._replica_of_module))
        module.__dict__.update(marks, forward=self)

    def __getstate__(self) -> dict[str, Any]:
        return {'module': self._module()}  # None if the module no longer exists

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state['module'] is None:
            self._module = lambda: None
        else:
            self._attach(state['module'])

    def restore(self) -> None:
        """Remove the replacement, so that the module runs its class's forward again."""
        self._leave(self.module)

    def _leave(self, module: nn.Module) -> None:
        for name in MARKS:
            module.__dict__.pop(name, None)
        if module.__dict__.get('forward') is self:
            del module.__dict__['forward']

    def _state_of_module(self) -> Any:
        """Return the module's state for copies and pickles, without the replacement.

        A deep copy of the replacement attaches itself to the copied module.
        """
        of_class = getattr(type(self.module), '__getstate__', None)
        if of_class is None or of_class is getattr(object, '__getstate__', None):
            state = self.module.__dict__
        else:  # a class's own method, such as that of a parametrized module, which raises an error
            state = of_class(self.module)
        if not isinstance(state, dict):
            return state
        return {k: v for k, v in state.items() if k not in MARKS[1:] and not (k == 'forward' and v is self)}

    def _replica_of_module(self) -> nn.Module:
        """Return a shallow copy of the module, as ``nn.DataParallel`` makes it, without the replacement."""
        replica: nn.Module = type(self.module)._replicate_for_data_parallel(self.module)
        self._leave(replica)
        return replica

    @property
    def module(self) -> Any:
        """The module whose forward is replaced.

        Raises:
            ReferenceError: the module no longer exists.
        """
        module = self._module()
        if module is None:
            raise ReferenceError(
                'the module of this forward no longer exists: keep a reference to the module and call it instead'
            )
        return module

    def plain(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward of the module's class."""
        module = self.module
        return type(module).forward(module, *args, **kwargs)

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module."""

    def covers(self) -> Iterable[nn.Module]:
        """Return the modules whose computation this forward performs."""
        return (self.module,)

    @abstractmethod
    def check(self) -> Any:
        """Check the module's current state; raise UnsupportedError with the reason if it cannot run efficiently."""

    def unsupported_reason(self) -> str | None:
        """Return why the module cannot run efficiently in its current state; None if it can."""
        try:
            self.check()
        except UnsupportedError as why:
            return str(why)
        return None
