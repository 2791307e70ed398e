"""The forward of a task's backbone: one pass at a time, or features that a request has already computed."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

from protuning_mm.backbones import TunedBackbone

# in this thread, while a head runs: a backbone, its input and its outputs for that input
_COMPUTED: ContextVar[tuple[TunedBackbone, Tensor, Any] | None] = ContextVar('computed', default=None)


class BackboneForward:
    """Replaces ``forward`` of one backbone instance.

    Args:
        backbone (TunedBackbone): The backbone.
        lock (Lock): Held while the backbone runs, because its hooks record the size of the current image.
    """

    def __init__(self, backbone: TunedBackbone, lock: threading.Lock) -> None:
        self._backbone = weakref.ref(backbone)
        self.lock = lock
        backbone.__dict__['forward'] = self

    def __call__(self, x: Tensor) -> Any:
        backbone = self._backbone()
        assert backbone is not None
        computed = _COMPUTED.get()
        if computed is not None and computed[0] is backbone and computed[1] is x:
            return computed[2]
        with self.lock:
            return type(backbone).forward(backbone, x)


@contextmanager
def use_features(backbone: TunedBackbone, x: Tensor, outs: Any) -> Iterator[None]:
    """In this thread, let ``backbone`` return ``outs`` for the tensor ``x``. Crops of ``x`` still run it."""
    token = _COMPUTED.set((backbone, x, outs))
    try:
        yield
    finally:
        _COMPUTED.reset(token)
