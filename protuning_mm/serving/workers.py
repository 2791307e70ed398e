"""The threads of a server: one finds tasks, one reads tasks, one runs the models."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

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
        versions = await self._use(self._finding, self.residents.find, names)
        if versions is None:
            versions = await self._use(self._loading, self.residents.load, names)
        assert versions is not None
        future = self._computing.submit(self._compute, versions, data, answer)
        begun.append(future)
        future.add_done_callback(lambda _: self._release(versions))
        return await asyncio.wrap_future(future)

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
                lambda done: None if done.cancelled() or done.exception() else self._release(done.result() or [])
            )
            raise

    def _release(self, versions: Sequence[Version]) -> None:
        if self.residents.versions.release(versions):
            with suppress(RuntimeError):  # the threads have ended
                self._loading.submit(self.residents.sweep)

    def _compute(self, versions: Sequence[Version], data: Sequence[bytes], answer: Answer[T]) -> T:
        start = time.perf_counter()
        images = [decode_image(each, i) for i, each in enumerate(data)]
        try:
            found = self.residents.multitask.predict({version.key: images for version in versions})
        except DataError as error:
            name = next((each.entry.name for each in versions if repr(each.key) in str(error)), '')
            logger.warning('task %s cannot prepare an image', name, exc_info=error)
            raise RequestError(422, f'task {name!r} cannot prepare an image of this form') from error
        seconds = time.perf_counter() - start
        for version in versions:
            self.residents.metrics.images.labels(version.entry.name).inc(len(images))
        return answer(images, {each.entry.name: (each.task, found[each.key]) for each in versions}, seconds)
