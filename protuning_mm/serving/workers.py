"""The threads of a server: one finds tasks, one reads tasks, one runs the models."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from protuning_mm.data import DataError
from protuning_mm.serving.answers import Image, Results
from protuning_mm.serving.errors import RequestError
from protuning_mm.serving.images import decode_image
from protuning_mm.serving.residents import Residents
from protuning_mm.serving.versions import Version

logger = logging.getLogger(__name__)
T = TypeVar('T')
Answer = Callable[[Sequence[Image], Results, float], T]  # images, results, seconds of computing


class Workers:
    """Runs requests in threads, so that the event loop stays free.

    Args:
        residents (Residents): The tasks in memory.
    """

    def __init__(self, residents: Residents) -> None:
        self.residents = residents
        self._finding, self._loading, self._computing = (
            ThreadPoolExecutor(1, thread_name_prefix=name) for name in ('find', 'load', 'compute')
        )

    def close(self) -> None:
        """Finish what runs, and end the threads."""
        for executor in (self._finding, self._computing, self._loading):
            executor.shutdown()

    async def change(self, call: Callable[..., T], *args: object) -> T:
        """Call a function that changes the tasks, in the thread that reads them."""
        return await asyncio.wrap_future(self._loading.submit(call, *args))

    async def predict(
        self, names: Sequence[str], data: Sequence[bytes], answer: Answer[T], begun: list[Future[T]]
    ) -> T:
        """Predict with several tasks on all images.

        Args:
            names (Sequence[str]): The tasks.
            data (Sequence[bytes]): The image files.
            answer (Callable): Converts the results in the computing thread.
            begun (list): Gets the future of the computation. It is cancelled if it was cancelled while it waited.
        """
        versions = await self.use(names)
        future = self._computing.submit(self._compute, versions, data, answer)
        begun.append(future)
        future.add_done_callback(lambda _: self.release(versions))
        return await asyncio.wrap_future(future)

    async def use(self, names: Sequence[str]) -> list[Version]:
        """Find tasks, read those that are not in memory, and count one more user of each."""
        versions = await self._use(self._finding, self.residents.find, names)
        if versions is None:
            versions = await self._use(self._loading, self.residents.load, names)
        assert versions is not None
        return versions

    async def compute(self, call: Callable[..., T], *args: object) -> T:
        """Call a function in the computing thread."""
        return await asyncio.wrap_future(self._computing.submit(call, *args))

    async def _use(
        self,
        executor: ThreadPoolExecutor,
        find: Callable[[Sequence[str]], list[Version] | None],
        names: Sequence[str],
    ) -> list[Version] | None:
        """Find tasks in another thread, and release them if nobody waits for them any more."""
        future = executor.submit(find, names)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            future.add_done_callback(
                lambda done: None if done.cancelled() or done.exception() else self.release(done.result() or [])
            )
            raise

    def release(self, versions: Sequence[Version]) -> None:
        """Count one user less of each version."""
        if self.residents.versions.release(versions):
            with suppress(RuntimeError):  # the threads have ended
                self._loading.submit(self.residents.sweep)

    def _compute(self, versions: Sequence[Version], data: Sequence[bytes], answer: Answer[T]) -> T:
        start = time.perf_counter()
        images = [decode_image(each, i) for i, each in enumerate(data)]
        found = self.run(dict.fromkeys(versions, images))
        seconds = time.perf_counter() - start
        return answer(images, {each.entry.name: (each.task, found[each]) for each in versions}, seconds)

    def run(self, wanted: Mapping[Version, Sequence[Image]]) -> dict[Version, list[Any]]:
        """Predict in one request to the shared backbone; return the data samples for each version's images.

        Raises:
            RequestError: a task cannot prepare an image (422).
        """
        try:
            found = self.residents.multitask.predict({version.key: images for version, images in wanted.items()})
        except DataError as error:
            name = next((each.entry.name for each in wanted if repr(each.key) in str(error)), '')
            logger.warning('task %s cannot prepare an image', name, exc_info=error)
            raise RequestError(422, f'task {name!r} cannot prepare an image of this form') from error
        for version, images in wanted.items():
            self.residents.metrics.images.labels(version.entry.name).inc(len(images))
            self.residents.metrics.batch.observe(len(images))
        return {version: found[version.key] for version in wanted}
