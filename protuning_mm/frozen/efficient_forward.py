"""Another forward for one module, which hands over to the class's own where anything is not as it should be."""

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from protuning_mm.frozen.block_structure import MARKS, UnsupportedError
from protuning_mm.frozen.folding import FoldedConv


def _nothing() -> None:
    """The module of a forward that has none."""


class EfficientForward(ABC):
    """Stands in the ``forward`` of one module's instance.

    It does not keep the module alive, and a deep copy or a pickle of the module has its own, without what was cached. A
    shallow copy has none: it shares the module's layers, but a forward belongs to one module.

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
        return {'module': self._module()}  # None in a shallow copy whose original is gone

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state['module'] is None:
            self._module = _nothing
        else:
            self._attach(state['module'])

    def restore(self) -> None:
        """Let the module run its class's forward again."""
        self._leave(self.module)

    def _leave(self, module: nn.Module) -> None:
        for name in MARKS:
            module.__dict__.pop(name, None)
        if module.__dict__.get('forward') is self:
            del module.__dict__['forward']

    def _state_of_module(self) -> Any:
        """What copies and pickles of the module take. Where this forward is copied, too, it takes the copy."""
        self.verify()  # before anything is saved
        of_class = getattr(type(self.module), '__getstate__', None)
        if of_class is None or of_class is getattr(object, '__getstate__', None):
            state = self.module.__dict__
        else:  # such as a parametrized module's, which refuses
            state = of_class(self.module)
        if not isinstance(state, dict):
            return state
        return {k: v for k, v in state.items() if k not in MARKS[1:] and not (k == 'forward' and v is self)}

    def _replica_of_module(self) -> nn.Module:
        """A shallow copy, as ``nn.DataParallel`` makes it."""
        replica: nn.Module = type(self.module)._replicate_for_data_parallel(self.module)
        self._leave(replica)
        return replica

    @property
    def module(self) -> Any:
        """The module that this is the forward of."""
        module = self._module()
        if module is None:
            raise ReferenceError(
                'this forward was kept alone, without its module, which is gone: keep the module and call that'
            )
        return module

    def plain(self, *args: Any, **kwargs: Any) -> Any:
        """The forward of the module's class."""
        module = self.module
        return type(module).forward(module, *args, **kwargs)

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns."""

    def folds(self) -> Iterable[FoldedConv]:
        """What was folded."""
        return ()

    def refold(self) -> None:
        """Forget what was folded."""
        for fold in self.folds():
            fold.forget()

    def verify(self) -> None:
        """Raise StaleWeightsError where folded weights were used that were no longer the module's."""
        for fold in self.folds():
            fold.verify()

    def covers(self) -> Iterable[nn.Module]:
        """The modules whose work this does."""
        return (self.module,)

    @abstractmethod
    def check(self) -> Any:
        """Look at the module as it is now; raise UnsupportedError where the plain path is to be taken, and say why."""

    def unsupported_reason(self) -> str | None:
        """Why the plain path is taken now; None where it is not."""
        try:
            self.check()
        except UnsupportedError as why:
            return str(why)
        return None
