"""Requests of several clients in one batch, as ``ray.serve.batch`` collects them."""

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ray import serve

from protuning_mm.serving.answers import Image
from protuning_mm.serving.errors import RequestError
from protuning_mm.serving.images import decode_image
from protuning_mm.serving.residents import Residents
from protuning_mm.serving.versions import Version
from protuning_mm.serving.workers import Answer, T, Workers


@dataclass(eq=False)
class _Job:
    versions: Sequence[Version]
    data: Sequence[bytes]
    answer: Answer[Any]
    begun: list[Any]


class BatchedWorkers(Workers):
    """Computes the requests that arrive while another batch is computed as one batch.

    Args:
        residents (Residents): The tasks in memory.
        max_batch (int): Requests of one batch.
    """

    def __init__(self, residents: Residents, max_batch: int) -> None:
        super().__init__(residents)

        async def collected(jobs: list[_Job]) -> list[Any]:
            return await self.compute(self._compute_jobs, jobs)

        self._batch = serve.batch(max_batch_size=max_batch, batch_wait_timeout_s=0)(collected)

    async def predict(
        self, names: Sequence[str], data: Sequence[bytes], answer: Answer[T], begun: list[Future[T]]
    ) -> T:
        """Predict as :meth:`Workers.predict` does."""
        versions = await self.use(names)
        try:
            outcome: Any = await self._batch(_Job(versions, data, answer, begun))
        finally:
            self.release(versions)
        if isinstance(outcome, Exception):
            raise outcome
        result: T = outcome
        return result

    def _compute_jobs(self, jobs: Sequence[_Job]) -> list[Any]:
        """Compute a batch; the outcome of a request is its answer or an error. One that cannot run spoils no other."""
        start = time.perf_counter()
        images: dict[_Job, list[Image]] = {}
        outcomes: dict[_Job, Any] = {}
        wanted: dict[Version, list[Image]] = {}
        for job in jobs:
            job.begun.append(Future())
            try:
                images[job] = [decode_image(each, i) for i, each in enumerate(job.data)]
            except RequestError as error:
                outcomes[job] = error
                continue
            for version in job.versions:
                wanted.setdefault(version, []).extend(images[job])
        try:
            found = {version: iter(samples) for version, samples in self.run(wanted).items()}
        except Exception as error:
            if len(images) > 1:
                return [outcomes[job] if job in outcomes else self._compute_jobs([job])[0] for job in jobs]
            return [outcomes.get(job, error) for job in jobs]
        seconds = time.perf_counter() - start
        for job, own in images.items():
            results = {each.entry.name: (each.task, [next(found[each]) for _ in own]) for each in job.versions}
            try:
                outcomes[job] = job.answer(own, results, seconds)
            except Exception as error:
                outcomes[job] = error
        return [outcomes[job] for job in jobs]
