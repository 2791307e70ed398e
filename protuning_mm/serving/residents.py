"""The tasks in memory: read when they are first needed, put away when others are needed more."""

import itertools
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protuning_mm.multitask import MultiTask
from protuning_mm.serving.capacity import DEFAULT, Capacity
from protuning_mm.serving.entry import Entry
from protuning_mm.serving.errors import RequestError, is_out_of_memory
from protuning_mm.serving.loading import load_error
from protuning_mm.serving.memory import return_freed_memory
from protuning_mm.serving.metrics import Metrics
from protuning_mm.serving.store import Store
from protuning_mm.serving.store_changes import delete_task, put_task
from protuning_mm.serving.versions import Version, Versions
from protuning_mm.weights.deltas.base import ignore_sources_of_deltas
from protuning_mm.weights.signature import find_verified_checkpoint

logger = logging.getLogger(__name__)


class Residents:
    """The tasks in memory.

    A version that is replaced or put away stays until the requests that use it are done. Only one thread may call
    :meth:`load`, :meth:`replace`, :meth:`delete` and :meth:`sweep`; :meth:`find` may be called from any.

    Args:
        store (Store): The store.
        metrics (Metrics): Counts loads and evictions.
        device (str): The device of all models. Defaults to ``'cpu'``.
        capacity (Capacity): Tasks to keep in memory. Requests for more tasks at once exceed it while they run.
            Defaults to 8 tasks.
        key (optional): An Ed25519 public key: deltas that are not signed with it are not read. Defaults to None.
    """

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        device: str = 'cpu',
        capacity: Capacity = DEFAULT,
        key: Any = None,
    ) -> None:
        self.key = key
        self.store = store
        self.metrics = metrics
        self.multitask = MultiTask(device)
        self.capacity = capacity
        self.versions = Versions(capacity.amount)
        self.known: dict[str, tuple[str, Any]] = {}  # kind and classes of the tasks that were read
        self.failed: dict[str, tuple[Entry, RequestError]] = {}  # the last versions that could not be read
        self._numbers = itertools.count()

    def find(self, names: Sequence[str]) -> list[Version] | None:
        """Return tasks and count one more user of each; None if one of them must be read first.

        Raises:
            RequestError: there is no such task (404), or its files are damaged (500).
        """
        return self.versions.use([(self._read(name), self._unreadable(name)) for name in names])

    def load(self, names: Sequence[str]) -> list[Version]:
        """Read the tasks that are not in memory, and return as :meth:`find` does.

        Raises:
            RequestError: a task does not exist (404), has another base (409), cannot be read (500), or was replaced at
                this moment by another server, or does not fit the memory (503).
        """
        used: list[Version] = []
        try:
            for name in names:
                found = self.find([name])
                if found is None:
                    self._load(self._read(name))
                    found = self.find([name])
                if found is None:
                    raise RequestError(503, f'task {name!r} was replaced while it was read', {'Retry-After': '1'})
                used += found
        except BaseException:
            self.versions.release(used)
            raise
        self.sweep()
        return used

    def replace(self, config: str, uploaded: Entry) -> None:
        """Read an uploaded delta, put it into the store, and use it for all requests from now on.

        Args:
            config (str): What the task's record will name as its config.
            uploaded (Entry): The task with the uploaded file as its delta.

        Raises:
            RequestError: the delta has another base (409) or cannot be read (422). The old task stays.
            OSError: the store cannot be written. The old task stays.
        """
        version = self._read_into_memory(uploaded, uploaded=True)
        try:
            version.entry = put_task(self.store, uploaded.name, config, Path(uploaded.delta))
        except BaseException:
            self.multitask.remove(version.key)
            raise
        self._put(version)
        self.sweep()

    def delete(self, name: str) -> None:
        """Remove a task from the store. Requests that use it are answered.

        Raises:
            RequestError: there is no such task (404).
        """
        delete_task(self.store, name)
        self._forget(name)
        self.sweep()

    def sweep(self) -> None:
        """Put away the least recently used tasks beyond the limit, and remove the versions that nobody uses."""
        self._remove_unused()

    def _remove_unused(self, all_idle: bool = False) -> int:
        """Put away tasks as :meth:`Versions.take_unused` does; return how many versions left the memory."""
        unused, evicted = self.versions.take_unused(all_idle)
        self.metrics.evictions.inc(evicted)
        for version in unused:
            self.multitask.remove(version.key)
        return len(unused)

    def _read(self, name: str) -> Entry:
        try:
            return self.store.read(name)
        except RequestError as error:
            if error.status == 404:
                self._forget(name)  # deleted by another server, or by hand
            raise

    def _unreadable(self, name: str) -> Entry | None:
        failed = self.failed.get(name)
        return None if failed is None else failed[0]

    def _load(self, entry: Entry) -> None:
        try:
            version = self._read_into_memory(entry, uploaded=False)
        except RequestError as error:
            self.metrics.failed_loads.inc()
            if error.status == 503:  # memory may be there the next time
                raise
            self.failed[entry.name] = (entry, error)
            if entry.name not in self.versions:
                raise
        else:
            self._put(version)

    def _read_into_memory(self, entry: Entry, uploaded: bool) -> Version:
        key, start = f'{entry.name}@{next(self._numbers)}', time.perf_counter()
        try:
            with ignore_sources_of_deltas():
                delta = find_verified_checkpoint(entry.delta, self.key)
                self._add(key, entry.config, delta)
        except Exception as error:
            known = type(error).__module__.startswith('protuning_mm.')  # other errors need their traceback
            logger.warning('task %s cannot be read: %s', entry.name, error, exc_info=not known)
            raise load_error(entry, error, uploaded) from error
        return_freed_memory()
        self.metrics.loads.observe(time.perf_counter() - start)
        task = self.multitask.task(key)
        return Version(key, entry, task, self.capacity.size_of(task))

    def _add(self, key: str, config: str, delta: Path) -> None:
        """Add a task; if memory is short, put away the tasks that no request uses, all but the last one, and repeat."""
        try:
            self.multitask.add(key, config, delta)
        except Exception as error:
            if not is_out_of_memory(error) or not self._remove_unused(all_idle=True):
                raise
            logger.warning('no memory for %s beside the tasks in memory: those without requests were put away', key)
            self.multitask.add(key, config, delta)

    def _put(self, version: Version) -> None:
        name = version.entry.name
        self.versions.put(version)
        self.failed.pop(name, None)
        self.known[name] = (version.task.kind, version.task.meta.get('classes'))

    def _forget(self, name: str) -> None:
        self.versions.retire(name)
        self.failed.pop(name, None)
        self.known.pop(name, None)
