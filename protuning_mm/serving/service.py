"""The service: what the routes call. It knows nothing of HTTP but the statuses of its errors."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from protuning_mm.serving.admission import Admission
from protuning_mm.serving.answers import KINDS
from protuning_mm.serving.capacity import DEFAULT, Capacity
from protuning_mm.serving.entry import Entry
from protuning_mm.serving.errors import RequestError, ServingError
from protuning_mm.serving.images import check_images
from protuning_mm.serving.limits import Limits
from protuning_mm.serving.loading import check_delta, suffix_of
from protuning_mm.serving.metrics import Metrics
from protuning_mm.serving.residents import Residents
from protuning_mm.serving.store import Store
from protuning_mm.serving.workers import Answer, Workers
from protuning_mm.weights.signature import signature_of

T = TypeVar('T')


class Service:
    """Answers requests for the tasks of a store. Call its coroutines from one event loop.

    Args:
        store (Store): The store.
        limits (Limits, optional): The limits. Defaults to those of :class:`Limits`.
        device (str): The device of all models. Defaults to ``'cpu'``.
        capacity (Capacity): Tasks to keep in memory. Defaults to 8 tasks.
        key (optional): An Ed25519 public key: deltas that are not signed with it are not served. Defaults to None.
        make_workers (Callable, optional): Makes what runs the requests. Defaults to :class:`Workers`.
    """

    def __init__(
        self,
        store: Store,
        limits: Limits | None = None,
        device: str = 'cpu',
        capacity: Capacity = DEFAULT,
        key: Any = None,
        make_workers: Callable[[Residents], Workers] | None = None,
    ) -> None:
        self.store = store
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.residents = Residents(store, self.metrics, device, capacity, key)
        self.admission = Admission(self.limits.max_queue)
        self._workers = (make_workers or Workers)(self.residents)
        self.metrics.watch(lambda: len(self.residents.versions), lambda: self.admission.admitted)

    def start(self) -> None:
        """Read the first task that can be read: its base is the base of this server.

        Raises:
            ServingError: there are tasks, and none can be read.
        """
        errors = []
        for name in self.store.names():
            try:
                self.residents.versions.release(self.residents.load([name]))
                return
            except RequestError as error:
                errors.append(f'{error} ({error.__cause__})' if error.__cause__ else str(error))
        if errors:
            raise ServingError(f'no task can be read. {errors[0]}')

    def close(self) -> None:
        """Finish what runs, and end the threads."""
        self._workers.close()

    async def predict(self, names: Sequence[str], data: Sequence[bytes], answer: Answer[T]) -> T:
        """Predict with several tasks on all images, in one request to the shared backbone.

        Args:
            names (Sequence[str]): The tasks.
            data (Sequence[bytes]): The image files.
            answer (Callable): Converts images, results and the seconds of computing; runs in the computing thread.

        Raises:
            RequestError: the images or tasks are wrong, too many requests wait (429), or the time is over while the
                request waits (503) or runs (504).
        """
        if len(set(names)) < len(names):
            raise RequestError(422, f'a task is named twice: {", ".join(names)}')
        await asyncio.to_thread(check_images, data, self.limits)
        begun: list[Future[T]] = []
        with self.admission.admit():
            start = time.perf_counter()
            try:
                return await asyncio.wait_for(self._workers.predict(names, data, answer, begun), self.limits.timeout)
            except asyncio.TimeoutError:
                text = f'the time of a request is over ({self.limits.timeout:g} s): it was still '
                if begun and not begun[0].cancelled():
                    raise RequestError(504, text + 'running') from None
                raise RequestError(503, text + 'waiting', self.admission.retry_later()) from None
            finally:
                self.admission.record((time.perf_counter() - start) / self.admission.admitted)

    async def put(self, name: str, written: str, uploaded: Path, signature: bytes = b'') -> dict[str, Any]:
        """Check an uploaded delta, and let it replace a task or add one.

        Args:
            name (str): The task's name.
            written (str): What the request names as its config; empty to keep the task's config.
            uploaded (Path): The uploaded file, in a temporary folder of the store.
            signature (bytes): Its signature. Defaults to none.

        Raises:
            RequestError: the command line names the task (409), the delta has another base (409) or cannot be used
                (422).
        """

        def replace() -> None:
            self.check_changeable(name)
            config = self.store.find_config(name, written)
            delta = uploaded.rename(uploaded.with_name(f'delta{suffix_of(uploaded)}'))
            if signature:
                signature_of(delta).write_bytes(signature)
            check_delta(delta, self.residents.key)
            self.residents.replace(config, Entry(name, self.store.locate(config), str(delta), ()))

        await self._workers.change(replace)
        return self.describe(name)

    async def delete(self, name: str) -> None:
        """Remove a task.

        Raises:
            RequestError: there is no such task (404), or the command line names it (409).
        """
        self.check_changeable(name)
        await self._workers.change(self.residents.delete, name)

    def check_changeable(self, name: str) -> None:
        """Check that requests may change a task.

        Raises:
            RequestError: they may not (403, 404, 409).
        """
        self.store.home(name)
        if name in self.store.fixed:
            raise RequestError(409, f'task {name!r} is named on the command line and cannot be changed')

    def describe(self, name: str) -> dict[str, Any]:
        """Describe a task; its kind and classes are None until it was in memory once."""
        kind, classes = self.residents.known.get(name, (None, None))
        described = dict(
            name=name,
            kind=KINDS.get(kind or ''),
            classes=None if classes is None else [str(each) for each in classes],
            resident=name in self.residents.versions,
        )
        failed = self.residents.failed.get(name)
        return described if failed is None else {**described, 'error': str(failed[1])}
