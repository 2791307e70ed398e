"""Every error is JSON with the right status, and is found before the work that it spares."""

import base64
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')

from protuning_mm.serving import app as app_module
from protuning_mm.serving import images as images_module
from tests.test_serving.stores import AUTHORIZED, Tasks, serve


@pytest.fixture(scope='module')
def client(tasks: Tasks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tasks.store(tmp_path_factory.mktemp('store') / 's', 'cls', 'foreign')
    with serve(folder, max_bytes=200_000, max_pixels=50_000, max_images=2) as client:
        yield client


def error_of(answer: Any, status: int) -> str:
    """Return the error text of an answer that must have a status."""
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ['error'] and 'Traceback' not in answer.text
    return answer.json()['error']


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file whose header claims a size that its few bytes do not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', zlib.compress(b'\0')) + chunk(b'IEND', b'')


def test_unknown_task(client: Any, tasks: Tasks) -> None:
    data = tasks.images[0].read_bytes()
    assert "no task 'nothing'" in error_of(client.post('/v1/tasks/nothing/predict', files=dict(image=data)), 404)
    assert 'GET /v1/tasks' in error_of(client.post('/v1/predict?tasks=cls,nothing', files=dict(image=data)), 404)
    error_of(client.delete('/v1/tasks/nothing', headers=AUTHORIZED), 404)


@pytest.mark.parametrize('name', ['.hidden', 'a' * 65, 'a b', 'ä', '..%2Fcls', '%2e%2e', 'a%00b', 'cls%2Ftask.json'])
def test_names_that_are_not_allowed(name: str, client: Any, tasks: Tasks) -> None:
    files = dict(image=tasks.images[0].read_bytes())
    error_of(client.post(f'/v1/tasks/{name}/predict', files=files), 404)
    error_of(client.put(f'/v1/tasks/{name}', files=tasks.files('cls', 'cls.py'), headers=AUTHORIZED), 404)
    error_of(client.delete(f'/v1/tasks/{name}', headers=AUTHORIZED), 404)


@pytest.mark.parametrize(
    ('arguments', 'status', 'message'),
    [
        (dict(content=b'no image', headers={'Content-Type': 'image/jpeg'}), 415, 'not an image of a known format'),
        (dict(content=b'GIF89a' + bytes(20), headers={'Content-Type': 'image/gif'}), 415, 'JPEG, PNG'),
        (dict(content=b'x', headers={'Content-Type': 'text/plain'}), 415, 'Content-Type: text/plain'),
        (dict(content=b'--x', headers={'Content-Type': 'multipart/form-data'}), 400, 'boundary'),
        (dict(content=b'{', headers={'Content-Type': 'application/json'}), 400, 'not JSON'),
        (dict(content=b'[' * 100_000, headers={'Content-Type': 'application/json'}), 400, 'not JSON'),
        (dict(json=[]), 422, 'images'),
        (dict(json=dict(images='text')), 422, 'images'),
        (dict(json=dict(images=['*'])), 422, 'base64'),
        (dict(json=dict(images=[])), 422, 'no image'),
        (dict(json=dict(images=[base64.b64encode(b'GIF').decode()])), 415, 'not an image'),
        (dict(files=dict(image=bytes(200_001))), 413, '200,000 bytes'),
    ],
)
def test_wrong_bodies(arguments: dict[str, Any], status: int, message: str, client: Any) -> None:
    assert message in error_of(client.post('/v1/tasks/cls/predict', **arguments), status)


def test_too_large_without_a_length(client: Any) -> None:
    """The bytes are counted while they arrive."""
    sent = []

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            sent.append(10_000)
            yield bytes(10_000)

    answer = client.post('/v1/tasks/cls/predict', content=chunks(), headers={'Content-Type': 'image/png'})
    assert '200,000 bytes' in error_of(answer, 413)


def test_too_many_images(client: Any, tasks: Tasks) -> None:
    files = [('image', tasks.images[0].read_bytes())] * 3
    assert '3 images' in error_of(client.post('/v1/tasks/cls/predict', files=files), 413)
    files = [('image', tasks.images[0].read_bytes())] * 2
    error_of(client.post('/v1/predict?tasks=cls', files=files), 422)


def test_huge_image_is_not_decoded(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one beyond the limit nor one that Pillow takes for an attack."""
    monkeypatch.setattr(images_module.cv2, 'imdecode', lambda *_: pytest.fail('decoded'))
    for width, height in ((100_000, 100_000), (20_000, 5_000), (300, 200)):
        answer = client.post('/v1/tasks/cls/predict', files=dict(image=png_header(width, height)))
        assert 'pixels' in error_of(answer, 413)


def test_pixels_of_all_images_count(client: Any, tasks: Tasks) -> None:
    image = cv2.imencode('.png', cv2.resize(cv2.imread(str(tasks.images[0])), (200, 150)))[1].tobytes()
    assert client.post('/v1/tasks/cls/predict', files=[('image', image)]).status_code == 200
    answer = client.post('/v1/tasks/cls/predict', files=[('image', image)] * 2)
    assert 'image 1 has 200 x 150 = 30,000 pixels, and the images before it 30,000' in error_of(answer, 413)


def test_truncated_and_damaged_images(client: Any, tasks: Tasks) -> None:
    data = tasks.images[0].read_bytes()
    assert 'truncated' in error_of(client.post('/v1/tasks/cls/predict', files=dict(image=data[:-500])), 415)
    answer = client.post('/v1/tasks/cls/predict', files=dict(image=png_header(100, 100)))
    assert 'damaged' in error_of(answer, 415)


def test_task_of_another_base(client: Any, tasks: Tasks) -> None:
    """It is refused, and the list of tasks says so."""
    answer = client.post('/v1/tasks/foreign/predict', files=dict(image=tasks.images[0].read_bytes()))
    assert 'another base' in error_of(answer, 409)
    listed = {task['name']: task for task in client.get('/v1/tasks').json()['tasks']}
    assert 'another base' in listed['foreign']['error'] and not listed['foreign']['resident']
    assert listed['cls'] == dict(name='cls', kind='classification', classes=['a', 'b', 'c'], resident=True)


def test_damaged_task_of_the_store(tasks: Tasks, tmp_path: Path) -> None:
    """The client is not told what the server's files contain."""
    folder = tasks.store(tmp_path / 's', 'cls', 'other', 'seg', 'det')
    (folder / 'other/task.json').write_text('{"config": 1}')
    (folder / 'seg/mine.pth').write_bytes(b'damaged')
    (folder / 'det/mine.pth').unlink()
    with serve(folder) as client:
        files = dict(image=tasks.images[0].read_bytes())
        for name in ('other', 'seg', 'det'):
            assert str(tmp_path) not in error_of(client.post(f'/v1/tasks/{name}/predict', files=files), 500)
        assert client.post('/v1/tasks/cls/predict', files=files).status_code == 200
        assert [task['name'] for task in client.get('/v1/tasks').json()['tasks']] == ['cls', 'det', 'other', 'seg']
        assert client.delete('/v1/tasks/other', headers=AUTHORIZED).status_code == 200


def test_unexpected_error(client: Any, tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise KeyError('secret')

    monkeypatch.setattr(app_module, 'describe_sample', fail)
    answer = client.post('/v1/tasks/cls/predict', files=dict(image=tasks.images[0].read_bytes()))
    assert 'secret' not in error_of(answer, 500)


def test_unknown_routes_and_methods(client: Any) -> None:
    error_of(client.get('/v2'), 404)
    error_of(client.get('/v1/predict'), 405)
    error_of(client.get('/docs'), 404)
