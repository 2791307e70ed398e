"""Requests of several clients in one batch; Ray itself does not run."""

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip('ray', reason='the extra `ray` is not installed')

from ray.serve import context

from protuning_mm.serving.batches import BatchedWorkers
from protuning_mm.serving.errors import RequestError
from protuning_mm.serving.limits import Limits
from protuning_mm.serving.service import Service
from protuning_mm.serving.store import Store
from tests.test_serving.stores import Tasks


@pytest.fixture(autouse=True)
def replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """``serve.batch`` asks for the replica that it runs in."""
    config = SimpleNamespace(max_ongoing_requests=100)
    here = SimpleNamespace(app_name='', deployment='Tasks', replica_tag='one', _deployment_config=config)
    monkeypatch.setattr(context, '_INTERNAL_REPLICA_CONTEXT', here)


def ask(service: Service, *groups: list[tuple[list[str], list[bytes]]]) -> list[Any]:
    """Send the requests of each group at once, and return answers and errors of the last group."""

    def answer(images: Any, results: Any, seconds: float) -> dict[str, list[Any]]:
        return {name: [_numbers(each) for each in samples] for name, (_, samples) in results.items()}

    async def send() -> list[Any]:
        outcomes: list[Any] = []
        for group in groups:
            calls = [service.predict(names, data, answer) for names, data in group]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        return outcomes

    return asyncio.run(send())


def _numbers(sample: Any) -> Any:
    if 'pred_score' in sample:
        return [round(float(each), 4) for each in sample.pred_score]
    return sorted((int(label), round(float(score), 4)) for label, score in zip(
        sample.pred_instances.labels, sample.pred_instances.scores
    ))  # fmt: skip


def test_a_batch_answers_as_single_requests_do(tasks: Tasks, tmp_path: Path) -> None:
    store = Store(tasks.store(tmp_path, 'det', 'cls', 'other'), {})
    images = [path.read_bytes() for path in tasks.images]
    requests = [
        (['cls'], [images[0]]),
        (['cls'], [images[1], images[0]]),
        (['cls', 'other'], [images[1]]),
        (['det'], [images[0]]),
        (['cls'], [b'\xff\xd8\xff damaged']),
    ]
    plain, batched = Service(store), Service(store, make_workers=partial(BatchedWorkers, max_batch=8))
    for service in (plain, batched):
        service.start()
    expected = [ask(plain, [request])[0] for request in requests]
    found = ask(batched, [(['det', 'cls', 'other'], [images[0]])], requests)  # all tasks are in memory for the second
    assert found[:4] == expected[:4]
    assert isinstance(found[4], RequestError) and str(found[4]) == str(expected[4]) and found[4].status == 415
    sizes = batched.metrics.batch.collect()[0].samples
    assert next(each.value for each in sizes if each.name.endswith('_sum')) == 3 + 4 + 1 + 1, (
        'images of cls, other, det'
    )
    counted = {each.labels['le']: each.value for each in sizes if each.name.endswith('_bucket')}
    assert counted['4.0'] - counted['2.0'] == 1, 'four images of cls in one computation'
    for service in (plain, batched):
        service.close()


def test_a_request_that_fails_spoils_no_other(tasks: Tasks, tmp_path: Path) -> None:
    service = Service(Store(tasks.store(tmp_path, 'cls'), {}), make_workers=partial(BatchedWorkers, max_batch=8))
    service.start()
    run = service._workers.run

    def fails_for_two(wanted: Any) -> Any:
        if any(len(images) != 1 for images in wanted.values()):
            raise RequestError(422, 'two images')
        return run(wanted)

    service._workers.run = fails_for_two  # type: ignore[method-assign]
    image = tasks.images[0].read_bytes()
    good, bad, other = ask(service, [(['cls'], [image]), (['cls'], [image, image]), (['cls'], [image])])
    assert good == other and good['cls']
    assert isinstance(bad, RequestError) and bad.status == 422
    service.close()


def test_the_time_limit(tasks: Tasks, tmp_path: Path) -> None:
    workers = partial(BatchedWorkers, max_batch=1)
    service = Service(Store(tasks.store(tmp_path, 'cls'), {}), Limits(timeout=0.4), make_workers=workers)
    service.start()
    run = service._workers.run

    def slow(wanted: Any) -> Any:
        import time

        time.sleep(1)
        return run(wanted)

    service._workers.run = slow  # type: ignore[method-assign]
    image = tasks.images[0].read_bytes()
    running, waiting = ask(service, [(['cls'], [image]), (['cls'], [image])])
    assert {running.status, waiting.status} == {503, 504}
    service.close()
