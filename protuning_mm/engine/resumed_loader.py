"""Data loaders that continue in the middle of an epoch.

They skip the batches that the interrupted run has already consumed, then restore the random states.
"""

from collections.abc import Callable, Iterator
from typing import Any

from mmengine.runner.loops import _InfiniteDataloaderIterator


class ResumedLoader:
    """A data loader that skips the first batches of its next epoch.

    Args:
        loader (DataLoader): The training loop's data loader. All attributes except iteration are delegated to it.
        batches (int): Number of batches of the epoch that were already consumed.
        restore (Callable): Restores the random states, after the last skipped batch or, if none is skipped, before
            the epoch begins.
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
            # Without workers it is enough to skip the indices. Workers must load the skipped batches, so that their
            # own random states advance as well.
            next(batches if self._loader.num_workers else batches._sampler_iter)
        self._restore()
        return batches


class ResumedIterator(_InfiniteDataloaderIterator):
    """mmengine's infinite iterator, which restores the random states before the first batch.

    The loop itself skips the consumed batches by calling ``skip_iter``.

    Args:
        loader (DataLoader): The training loop's data loader.
        restore (Callable): Restores the random states.
    """

    def __init__(self, loader: Any, restore: Callable[[], None]) -> None:
        super().__init__(loader)
        self._restore: Callable[[], None] | None = restore

    def __next__(self) -> Any:
        if self._restore is not None:
            self._ensure_iterator()  # draws the workers' seed, so it must run before the states are restored
            self._restore()
            self._restore = None
        return super().__next__()
