"""The queue, the time limit, and the tasks in memory."""

import argparse
import json
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')

from protuning_mm.serving.capacity import Capacity, capacity
from tests.test_serving.stores import AUTHORIZED, Tasks, serve
from tests.test_serving.test_errors import error_of


class Gate:
    """Holds every call of a service's models until it is opened."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        multitask = client.service.residents.multitask
        predict = multitask.predict
        self.opened, self.running = threading.Event(), threading.Semaphore(0)

        def held(images: Any) -> Any:
            self.running.release()
            assert self.opened.wait(60)
            return predict(images)

        monkeypatch.setattr(multitask, 'predict', held)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wait_for(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail('not in 10 s')


def test_queue_overflow(
    tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> None:
    """One request runs, two wait, the fourth is refused at once; afterwards there is room again."""
    with serve(tasks.store(tmp_path / 's', 'cls'), max_queue=2) as client:
        gate = Gate(client, monkeypatch)

        def ask() -> Any:
            return client.post('/v1/tasks/cls/predict', files=dict(image=tasks.images[0].read_bytes()))

        admitted = [pool.submit(ask) for _ in range(3)]
        wait_for(lambda: client.service.admission.admitted == 3)
        assert client.get('/readyz').status_code == 503
        refused = ask()
        assert 'wait already' in error_of(refused, 429) and int(refused.headers['Retry-After']) >= 1
        assert client.get('/healthz').status_code == 200, 'other routes do not wait'
        assert 'protuning_queue 3.0' in client.get('/metrics').text
        gate.opened.set()
        assert [each.result().status_code for each in admitted] == [200] * 3
        assert ask().status_code == 200 and client.get('/readyz').status_code == 200


def test_time_limit(tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor) -> None:
    """A request that still waits gets 503 and never runs; one that runs gets 504."""
    with serve(tasks.store(tmp_path / 's', 'cls'), timeout=0.7) as client:
        gate = Gate(client, monkeypatch)

        def ask() -> Any:
            return client.post('/v1/tasks/cls/predict', files=dict(image=tasks.images[0].read_bytes()))

        running = pool.submit(ask)
        assert gate.running.acquire(timeout=10)
        waiting = ask()
        assert 'waiting' in error_of(waiting, 503) and 'Retry-After' in waiting.headers
        assert 'running' in error_of(running.result(), 504)
        assert client.service.admission.admitted == 0
        gate.opened.set()
        wait_for(lambda: ask().status_code == 200)
        residents = client.service.residents
        wait_for(lambda: all(resident.users == 0 for resident in residents.versions._current.values()))


def test_least_recently_used_tasks_are_put_away(tasks: Tasks, tmp_path: Path) -> None:
    folder = tasks.store(tmp_path / 's', 'cls', 'det', 'other')
    with serve(folder, max_resident=2) as client:
        files = dict(image=tasks.images[0].read_bytes())

        def resident() -> set[str]:
            wait_for(lambda: len(client.service.residents.versions) <= 2)
            return {task['name'] for task in client.get('/v1/tasks').json()['tasks'] if task['resident']}

        assert resident() == {'cls'}  # the first one defines the base
        for name, expected in (('det', {'cls', 'det'}), ('cls', {'cls', 'det'}), ('other', {'cls', 'other'})):
            assert client.post(f'/v1/tasks/{name}/predict', files=files).status_code == 200
            assert resident() == expected
        assert client.post('/v1/predict?tasks=cls,det,other', files=files).status_code == 200  # more than the limit
        assert len(resident()) == 2
        assert len(client.service.residents.multitask.tasks) == 2
        listed = {task['name']: task['classes'] for task in client.get('/v1/tasks').json()['tasks']}
        assert listed == {name: ['a', 'b', 'c'] for name in ('cls', 'det', 'other')}, 'known of those put away, too'
        text = client.get('/metrics').text
        assert 'protuning_resident_tasks 2.0' in text and 'protuning_task_evictions_total 2.0' in text


def test_concurrent_first_requests_read_a_task_once(
    tasks: Tasks, tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(tasks.store(tmp_path / 's', 'cls', 'other')) as client:
        multitask, added = client.service.residents.multitask, []
        add = multitask.add
        monkeypatch.setattr(multitask, 'add', lambda key, *rest: (added.append(key), time.sleep(0.2), add(key, *rest)))
        data = tasks.images[0].read_bytes()
        asked = [pool.submit(client.post, '/v1/tasks/other/predict', files=dict(image=data)) for _ in range(6)]
        assert [each.result().status_code for each in asked] == [200] * 6
        assert len(added) == 1
        assert 'protuning_task_load_seconds_count 2.0' in client.get('/metrics').text


def test_a_task_that_is_read_does_not_hold_up_others(
    tasks: Tasks, tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(tasks.store(tmp_path / 's', 'cls', 'other')) as client:
        multitask, opened = client.service.residents.multitask, threading.Event()
        add = multitask.add
        monkeypatch.setattr(multitask, 'add', lambda *args: (opened.wait(30), add(*args)))
        files = dict(image=tasks.images[0].read_bytes())
        cold = pool.submit(client.post, '/v1/tasks/other/predict', files=files)
        wait_for(lambda: client.service.admission.admitted == 1)
        assert client.post('/v1/tasks/cls/predict', files=files).status_code == 200
        assert not cold.done()
        opened.set()
        assert cold.result().status_code == 200


@pytest.mark.parametrize('how', ['delete', 'replace', 'put away'])
def test_a_request_keeps_its_task(
    how: str, tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: ThreadPoolExecutor
) -> None:
    """Whatever happens to a task during a request, the request gets the answer of the task that it began with."""
    with serve(tasks.store(tmp_path / 's', 'cls', 'other'), max_resident=1) as client:
        files = dict(image=tasks.images[0].read_bytes())
        expected = client.post('/v1/tasks/cls/predict', files=files).json()['results']
        gate, others = Gate(client, monkeypatch), []
        asked = pool.submit(client.post, '/v1/tasks/cls/predict', files=files)
        assert gate.running.acquire(timeout=10)
        if how == 'delete':
            assert client.delete('/v1/tasks/cls', headers=AUTHORIZED).status_code == 200
        elif how == 'replace':
            assert client.put('/v1/tasks/cls', files=tasks.files('other'), headers=AUTHORIZED).status_code == 200
        else:
            others.append(pool.submit(client.post, '/v1/tasks/other/predict', files=files))
            wait_for(lambda: client.service.residents.versions._current.get('other'))
        gate.opened.set()
        assert asked.result().status_code == 200, asked.result().text
        assert asked.result().json()['results'] == expected
        assert all(other.result().status_code == 200 for other in others)
        wait_for(lambda: len(client.service.residents.multitask.tasks) <= 1)


def test_a_delta_that_an_operator_replaces_by_hand(tasks: Tasks, tmp_path: Path) -> None:
    """The next request uses it; if it cannot be read, the old one stays, and the list of tasks says so."""
    folder = tasks.store(tmp_path / 's', 'cls')
    files = dict(image=tasks.images[0].read_bytes())
    with serve(folder) as client:

        def ask() -> Any:
            return client.post('/v1/tasks/cls/predict', files=files).json()['results']

        first = ask()
        shutil.copy(tasks.deltas['other'], folder / 'cls/new.pth')
        (folder / 'cls/task.json').write_text(json.dumps(dict(config='cls.py', delta='new.pth')))
        second = ask()
        assert second != first
        (folder / 'cls/new.pth').write_bytes(b'half')
        assert ask() == second
        assert 'cannot be read' in client.get('/v1/tasks').json()['tasks'][0]['error']
        shutil.copy(tasks.deltas['cls'], folder / 'cls/new.pth')
        assert ask() == first
        assert 'error' not in client.get('/v1/tasks').json()['tasks'][0]


def test_metrics(tasks: Tasks, tmp_path: Path) -> None:
    with serve(tasks.store(tmp_path / 's', 'cls')) as client:
        client.post('/v1/tasks/cls/predict', files=[('image', path.read_bytes()) for path in tasks.images[:2]])
        client.post('/v1/tasks/nothing/predict', files=dict(image=b''))
        client.get('/no/such/page')
        text = client.get('/metrics').text
        route = 'route="/v1/tasks/{name}/predict"'
        assert f'protuning_requests_total{{method="POST",{route},status="200"}} 1.0' in text
        assert f'protuning_requests_total{{method="POST",{route},status="404"}} 1.0' in text
        assert 'protuning_requests_total{method="other",route="other",status="404"} 1.0' in text
        assert 'protuning_images_total{task="cls"} 2.0' in text
        assert f'protuning_request_seconds_count{{method="POST",{route}}} 2.0' in text
        assert 'process_resident_memory_bytes' in text and 'nothing' not in text


def test_memory_of_tasks_is_limited(tasks: Tasks, tmp_path: Path) -> None:
    """The limit fits the detector and one other task; what a task takes is counted from the tensors of its model."""
    folder = tasks.store(tmp_path / 's', 'cls', 'other', 'det')
    files = dict(image=tasks.images[0].read_bytes())

    def own(client: Any, name: str) -> float:
        task = client.service.residents.versions._current[name].task
        trained = [tensor for tensor in task.model.parameters() if tensor.requires_grad]
        return sum(tensor.numel() * tensor.element_size() for tensor in trained) / 2**20

    with serve(folder) as client:
        for name in ('cls', 'det'):
            assert client.post(f'/v1/tasks/{name}/predict', files=files).status_code == 200
        sizes = {name: own(client, name) for name in ('cls', 'det')}
    limit = sizes['det'] + 1.5 * sizes['cls']
    with serve(folder, Capacity(limit, in_mib=True)) as client:
        for name, resident in (('det', {'cls', 'det'}), ('other', {'det', 'other'}), ('cls', {'cls', 'other'})):
            assert client.post(f'/v1/tasks/{name}/predict', files=files).status_code == 200
            wait_for(lambda wanted=resident: residents(client) == wanted)
    with serve(folder, Capacity(0.01, in_mib=True)) as client:  # less than one task: the last one stays, as the base
        for name in ('det', 'other'):
            assert client.post(f'/v1/tasks/{name}/predict', files=files).status_code == 200
            wait_for(lambda wanted={name}: residents(client) == wanted)


def residents(client: Any) -> set[str]:
    return {task['name'] for task in client.get('/v1/tasks').json()['tasks'] if task['resident']}


@pytest.mark.parametrize('written', ['0', '-1', '1.5', 'MiB', '0MiB', '5GB', 'a'])
def test_wrong_capacities(written: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match='such as 8, or of MiB, such as 500MiB'):
        capacity(written)
    assert capacity('8') == Capacity(8) and capacity('500MiB') == Capacity(500, in_mib=True)
