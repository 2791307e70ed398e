"""Going on within an epoch: what a training loop has consumed is passed over, and then the random streams are set."""

from collections.abc import Callable, Iterator
from typing import Any


class ResumedLoader:
    """A data loader whose next epoch begins behind its first batches.

    Args:
        loader (DataLoader): The loop's own; everything but iterating is its business.
        batches (int): How many batches of the epoch were consumed.
        restore (Callable): Sets the random streams: before the epoch begins, or behind the last batch passed over.
    """

    def __init__(self, loader: Any, batches: int, restore: Callable[[], None]) -> None:
        self._loader = loader
        self._batches = batches
        self._restore = restore

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        if not self._batches:
            self._restore()
            return iter(self._loader)
        batches = iter(self._loader)
        for _ in range(self._batches):
            # Without workers the indices alone are passed over. Workers load what is passed over, which brings their
            # own random streams to the right place too.
            next(batches if self._loader.num_workers else batches._sampler_iter)
        self._restore()
        return batches


class ResumedIterator:
    """The same for mmengine's endless iterator, whose loop passes over what was consumed by ``skip_iter``."""

    def __init__(self, iterator: Any, restore: Callable[[], None]) -> None:
        self._iterator = iterator
        self._restore: Callable[[], None] | None = restore

    def skip_iter(self, number: int) -> None:
        self._iterator.skip_iter(number)

    def __iter__(self) -> 'ResumedIterator':
        return self

    def __next__(self) -> Any:
        if self._restore is not None:
            self._iterator._ensure_iterator()  # which draws a seed for workers
            self._restore()
            self._restore = None
        return next(self._iterator)
