"""Uploads: who may send them, what is refused, and what stays behind."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')

from protuning_mm.serving.store import Store
from tests.test_serving.stores import AUTHORIZED, TOKEN, Tasks, leftovers, serve
from tests.test_serving.test_errors import error_of


@pytest.fixture
def folder(tasks: Tasks, tmp_path: Path) -> Path:
    return tasks.store(tmp_path / 's', 'cls', 'det')


@pytest.fixture
def client(folder: Path) -> Iterator[Any]:
    with serve(folder, max_upload_bytes=10_000_000) as client:
        yield client


def classify(client: Any, tasks: Tasks, name: str) -> list[float]:
    answer = client.post(f'/v1/tasks/{name}/predict', files=dict(image=tasks.images[0].read_bytes()))
    assert answer.status_code == 200, answer.text
    found = answer.json()['results'][0]['classes']
    return [each['score'] for each in sorted(found, key=lambda each: each['label'])]


def test_add_replace_and_delete(client: Any, folder: Path, tasks: Tasks) -> None:
    first = classify(client, tasks, 'cls')
    added = client.put('/v1/tasks/new', files=tasks.files('other', 'cls'), headers=AUTHORIZED)  # the config of a task
    assert added.status_code == 200, added.text
    assert added.json() == dict(name='new', kind='classification', classes=['a', 'b', 'c'], resident=True)
    second = classify(client, tasks, 'new')
    assert first != second
    assert client.put('/v1/tasks/cls', files=tasks.files('other'), headers=AUTHORIZED).status_code == 200
    assert classify(client, tasks, 'cls') == second
    assert client.put('/v1/tasks/cls', files=tasks.files('cls', 'cls.py'), headers=AUTHORIZED).status_code == 200
    assert classify(client, tasks, 'cls') == first
    assert (folder / 'cls/mine.pth').is_file(), "an operator's file is not removed"
    assert len(leftovers(folder)) == 2
    assert client.delete('/v1/tasks/new', headers=AUTHORIZED).json() == dict(deleted='new')
    error_of(client.post('/v1/tasks/new/predict', files=dict(image=tasks.images[0].read_bytes())), 404)
    assert not (folder / 'new').exists()


def test_a_restarted_server_serves_what_was_uploaded(folder: Path, tasks: Tasks) -> None:
    with serve(folder) as client:
        assert client.put('/v1/tasks/new', files=tasks.files('other', 'cls.py'), headers=AUTHORIZED).status_code == 200
        expected = classify(client, tasks, 'new')
    with serve(folder) as client:
        assert classify(client, tasks, 'new') == expected


def test_two_servers_of_one_store(folder: Path, tasks: Tasks) -> None:
    """What one changes, the other one sees in its next request."""
    with serve(folder) as first, serve(folder) as second:
        before = classify(second, tasks, 'cls')
        assert first.put('/v1/tasks/cls', files=tasks.files('other'), headers=AUTHORIZED).status_code == 200
        after = classify(second, tasks, 'cls')
        assert after != before and after == classify(first, tasks, 'cls')
        assert first.delete('/v1/tasks/cls', headers=AUTHORIZED).status_code == 200
        error_of(second.post('/v1/tasks/cls/predict', files=dict(image=tasks.images[0].read_bytes())), 404)


def test_an_empty_store_takes_its_first_task(tasks: Tasks, tmp_path: Path) -> None:
    folder = tasks.store(tmp_path / 's')
    (folder / 'configs/cls.py').write_text(tasks.configs['cls'].read_text())
    with serve(folder) as client:
        assert client.get('/v1/tasks').json() == dict(tasks=[])
        assert client.put('/v1/tasks/new', files=tasks.files('cls', 'cls.py'), headers=AUTHORIZED).status_code == 200
        assert len(classify(client, tasks, 'new')) == 3
        error_of(client.put('/v1/tasks/b', files=tasks.files('foreign', 'cls.py'), headers=AUTHORIZED), 409)


@pytest.mark.parametrize('method', ['put', 'delete'])
def test_token(method: str, client: Any, folder: Path, tasks: Tasks) -> None:
    def call(headers: dict[str, str]) -> Any:
        files = dict(files=tasks.files('other')) if method == 'put' else {}
        return getattr(client, method)('/v1/tasks/cls', headers=headers, **files)

    answer = call({})
    assert 'Bearer' in error_of(answer, 401) and answer.headers['WWW-Authenticate'] == 'Bearer'
    error_of(call(dict(Authorization=f'Basic {TOKEN}')), 401)
    error_of(call(dict(Authorization='Bearer wrong')), 403)
    error_of(call(dict(Authorization=f'Bearer {TOKEN}x')), 403)
    assert not leftovers(folder)
    assert call(AUTHORIZED).status_code == 200


def test_without_a_token_nothing_can_be_changed(folder: Path, tasks: Tasks) -> None:
    with serve(folder, token=None) as client:
        assert '--token-file' in error_of(
            client.put('/v1/tasks/cls', files=tasks.files('cls'), headers=AUTHORIZED), 403
        )
        error_of(client.delete('/v1/tasks/cls', headers=AUTHORIZED), 403)


def test_a_delta_of_another_base(client: Any, folder: Path, tasks: Tasks) -> None:
    before = classify(client, tasks, 'cls')
    for config in ('cls.py', ''):
        answer = client.put('/v1/tasks/cls', files=tasks.files('foreign', config), headers=AUTHORIZED)
        assert 'another base' in error_of(answer, 409)
    assert classify(client, tasks, 'cls') == before and not leftovers(folder)


def test_a_delta_names_no_file_of_the_server(client: Any, tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of `foreign` names the file of its base, which is on this machine: it is not opened."""
    from protuning_mm.backbones import TunedBackbone

    opened, read = [], TunedBackbone.read_base
    monkeypatch.setattr(
        TunedBackbone, 'read_base', lambda self, source, prefix: opened.append(source) or read(self, source, prefix)
    )
    error_of(client.put('/v1/tasks/cls', files=tasks.files('foreign'), headers=AUTHORIZED), 409)
    assert opened and not any('foreign' in source for source in opened)


def damaged_files(tasks: Tasks) -> dict[str, bytes]:
    data = tasks.deltas['other'].read_bytes()
    whole = tasks.workshop.folder / 'plain.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(2))), whole)
    return dict(
        truncated=data[: len(data) // 2],
        flipped=data[:3000] + bytes([data[3000] ^ 1]) + data[3001:],
        empty=b'',
        text=b'import os',
        plain=whole.read_bytes(),
        code=b'cos\nsystem\n(S"touch /tmp/never"\ntR.',
        safetensors=bytes(8) + b'{' + bytes(9),
    )


@pytest.mark.parametrize('kind', ['truncated', 'flipped', 'empty', 'text', 'plain', 'code', 'safetensors'])
def test_damaged_files(kind: str, client: Any, folder: Path, tasks: Tasks) -> None:
    """The old task stays, no file is left, and the message names no path of the server."""
    before = classify(client, tasks, 'cls')
    form = dict(delta=('x.pth', damaged_files(tasks)[kind]))
    text = error_of(client.put('/v1/tasks/cls', files=form, headers=AUTHORIZED), 422)
    assert str(folder) not in text and 'uploaded file' in text
    error_of(client.put('/v1/tasks/new', files={**form, 'config': (None, 'cls.py')}, headers=AUTHORIZED), 422)
    assert classify(client, tasks, 'cls') == before
    assert not leftovers(folder) and not (folder / 'new').exists()


def test_a_config_of_another_model(client: Any, folder: Path, tasks: Tasks) -> None:
    text = error_of(client.put('/v1/tasks/new', files=tasks.files('other', 'det.py'), headers=AUTHORIZED), 422)
    assert 'does not fit the model' in text and str(folder) not in text


@pytest.mark.parametrize('config', ['../s/configs/cls.py', '/etc/passwd', 'nothing.py', 'mmdet::x.py', ''])
def test_configs_that_are_not_the_operators(config: str, client: Any, folder: Path, tasks: Tasks) -> None:
    answer = client.put('/v1/tasks/new', files=tasks.files('other', config), headers=AUTHORIZED)
    assert 'configs are: cls.py, det.py' in error_of(answer, 422)
    assert not leftovers(folder)


def test_wrong_forms(client: Any, folder: Path, tasks: Tasks) -> None:
    put, data = client.put, tasks.deltas['other'].read_bytes()
    error_of(put('/v1/tasks/cls', content=data, headers=AUTHORIZED), 415)
    error_of(put('/v1/tasks/cls', files=dict(config=(None, 'cls.py')), headers=AUTHORIZED), 400)
    error_of(put('/v1/tasks/cls', files=dict(a=data, b=data), headers=AUTHORIZED), 400)
    form = {**AUTHORIZED, 'Content-Type': 'multipart/form-data; boundary=x'}
    begin = b'--x\r\nContent-Disposition: form-data; name="delta"; filename="d"\r\n\r\n'
    error_of(put('/v1/tasks/cls', content=begin + data, headers=form), 400)  # the end is missing
    error_of(put('/v1/tasks/cls', content=b'garbage', headers=form), 400)
    error_of(put('/v1/tasks/cls', content=bytes(10_000_001), headers=form), 413)
    parts = [begin, *[bytes(10**6)] * 11]
    error_of(put('/v1/tasks/cls', content=iter(parts), headers=form), 413)
    assert not leftovers(folder)


def test_a_full_disk(client: Any, folder: Path, tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    before = classify(client, tasks, 'cls')

    def full(*_: Any) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('protuning_mm.serving.store_changes.write_atomically', full)
    error_of(client.put('/v1/tasks/cls', files=tasks.files('other'), headers=AUTHORIZED), 507)
    error_of(client.put('/v1/tasks/new', files=tasks.files('other', 'cls'), headers=AUTHORIZED), 507)
    assert classify(client, tasks, 'cls') == before and not leftovers(folder) and not (folder / 'new').exists()
    assert len(client.service.residents.versions) == 1


def test_tasks_of_the_command_line_cannot_be_changed(folder: Path, tasks: Tasks) -> None:
    from fastapi.testclient import TestClient

    from protuning_mm.serving.app import build_app
    from protuning_mm.serving.service import Service

    fixed = dict(mine=(str(tasks.configs['cls']), str(tasks.deltas['cls'])))
    service = Service(Store(folder, fixed))
    service.start()
    with TestClient(build_app(service, TOKEN)) as client:
        assert len(classify(client, tasks, 'mine')) == 3
        error_of(client.put('/v1/tasks/mine', files=tasks.files('other'), headers=AUTHORIZED), 409)
        error_of(client.delete('/v1/tasks/mine', headers=AUTHORIZED), 409)
        assert client.put('/v1/tasks/new', files=tasks.files('other', 'mine'), headers=AUTHORIZED).status_code == 200
        assert json.loads((folder / 'new/task.json').read_text())['config'] == str(tasks.configs['cls'])


def test_replaced_during_requests(client: Any, tasks: Tasks) -> None:
    """Every answer is the old one or the new one, never an error."""
    expected = {'cls': classify(client, tasks, 'cls')}
    client.put('/v1/tasks/cls', files=tasks.files('other'), headers=AUTHORIZED)
    expected['other'] = classify(client, tasks, 'cls')
    seen: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                found = classify(client, tasks, 'cls')
                seen.append(next(name for name, scores in expected.items() if scores == found))
            except BaseException as error:
                seen.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for name in ('cls', 'other') * 3:
        assert client.put('/v1/tasks/cls', files=tasks.files(name), headers=AUTHORIZED).status_code == 200
    done.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {'cls', 'other'}, seen
    client.get('/healthz')
    assert len(client.service.residents.multitask.tasks) <= 3
