"""Answers equal what MultiTask predicts and what the host predicts."""

import base64
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from pycocotools import mask as coco

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')

from tests.test_multitask.tasks import infer_by_host, load_by_host
from tests.test_serving.stores import Tasks, serve


@pytest.fixture(scope='module')
def client(tasks: Tasks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with serve(tasks.store(tmp_path_factory.mktemp('store') / 's', 'det', 'seg', 'cls')) as client:
        yield client


@pytest.fixture(scope='module')
def expected(tasks: Tasks) -> dict[str, list[Any]]:
    """What each host's own function predicts for two images."""
    found = {}
    for name in ('det', 'seg', 'cls'):
        model = load_by_host(Config.fromfile(tasks.configs[name]), str(tasks.deltas[name]))
        found[name] = infer_by_host(model, [str(path) for path in tasks.images[:2]])
    return found


def check(name: str, answer: dict[str, Any], sample: Any, tolerance: float = 1e-3) -> None:
    """Compare; kernels round differently for larger batches, and a cascade of heads amplifies that."""
    assert answer['size'] == [96, 128]
    if name == 'det':
        found = sample.pred_instances
        assert len(found) == len(answer['objects']) > 0
        for i, each in enumerate(answer['objects']):
            assert each['label'] == int(found.labels[i]) and each['name'] == 'abc'[each['label']]
            assert each['score'] == pytest.approx(float(found.scores[i]), abs=tolerance)
            assert each['box'] == pytest.approx(found.bboxes[i].tolist(), abs=100 * tolerance)
            assert (coco.decode(each['mask']) != np.asarray(found.masks[i])).mean() <= tolerance
    elif name == 'seg':
        labels = sample.pred_sem_seg.data[0].numpy()
        assert [each['label'] for each in answer['classes']] == np.unique(labels).tolist()
        for each in answer['classes']:
            assert (coco.decode(each['mask']) != (labels == each['label'])).mean() <= tolerance
            assert each['name'] == 'abc'[each['label']] and each['pixels'] == coco.area(each['mask'])
    else:
        scores = sample.pred_score.tolist()
        assert [each['score'] for each in answer['classes']] == pytest.approx(
            sorted(scores, reverse=True), abs=tolerance
        )
        assert all(
            each['score'] == pytest.approx(scores['abc'.index(each['name'])], abs=tolerance)
            for each in answer['classes']
        )


@pytest.mark.parametrize('form', ['multipart', 'json', 'plain'])
@pytest.mark.parametrize('name', ['det', 'seg', 'cls'])
def test_a_task_answers_as_the_host(
    name: str, form: str, client: Any, tasks: Tasks, expected: dict[str, list[Any]]
) -> None:
    data = [path.read_bytes() for path in tasks.images[: 1 if form == 'plain' else 2]]
    url = f'/v1/tasks/{name}/predict?score_thr=0'
    if form == 'multipart':
        answer = client.post(url, files=[('image', each) for each in data])
    elif form == 'json':
        answer = client.post(url, json=dict(images=[base64.b64encode(each).decode() for each in data]))
    else:
        answer = client.post(url, content=data[0], headers={'Content-Type': 'image/jpeg'})
    assert answer.status_code == 200, answer.text
    assert answer.json()['task'] == name and len(answer.json()['results']) == len(data)
    for found, sample in zip(answer.json()['results'], expected[name]):
        check(name, found, sample, 1e-6 if form == 'plain' else 1e-3)


def test_several_tasks_answer_for_one_image(
    client: Any, tasks: Tasks, expected: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are one request to MultiTask."""
    multitask, calls = client.service.residents.multitask, []
    predict = multitask.predict
    monkeypatch.setattr(multitask, 'predict', lambda images: calls.append(len(images)) or predict(images))
    data = tasks.images[0].read_bytes()
    for arguments in (
        dict(files=dict(image=data), data=dict(tasks='det,seg,cls')),
        dict(content=data, headers={'Content-Type': 'image/jpeg'}, params=dict(tasks=['det', 'seg', 'cls'])),
        dict(json=dict(images=[base64.b64encode(data).decode()], tasks=['det', 'seg', 'cls'])),
    ):
        arguments.setdefault('params', {})['score_thr'] = 0
        answer = client.post('/v1/predict', **arguments)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()['results']) == ['det', 'seg', 'cls']
        for name, found in answer.json()['results'].items():
            check(name, found, expected[name][0])
    assert calls == [3, 3, 3]


def test_score_and_number_of_classes(client: Any, tasks: Tasks) -> None:
    files = dict(image=tasks.images[0].read_bytes())
    scores = [
        e['score']
        for e in client.post('/v1/tasks/det/predict?score_thr=0', files=files).json()['results'][0]['objects']
    ]
    middle = sorted(scores)[len(scores) // 2]
    kept = client.post(f'/v1/tasks/det/predict?score_thr={middle}', files=files).json()['results'][0]['objects']
    assert len(kept) == sum(score >= middle for score in scores)
    assert len(client.post('/v1/tasks/cls/predict?top_k=1', files=files).json()['results'][0]['classes']) == 1
    assert client.post('/v1/tasks/det/predict?score_thr=2', files=files).status_code == 422
    assert 'error' in client.post('/v1/tasks/det/predict?top_k=0', files=files).json()


@pytest.mark.parametrize('url', ['/v1/tasks/det/predict', '/v1/predict?tasks=det,seg,cls'])
def test_drawn_picture(url: str, client: Any, tasks: Tasks) -> None:
    data = tasks.images[0].read_bytes()
    answer = client.post(url, files=dict(image=data), headers={'Accept': 'image/png'})
    assert answer.headers['content-type'] == 'image/png'
    assert cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR).shape[2] == 3


def test_a_picture_shows_one_image(client: Any, tasks: Tasks) -> None:
    files = [('image', path.read_bytes()) for path in tasks.images[:2]]
    answer = client.post('/v1/tasks/det/predict', files=files, headers={'Accept': 'image/png'})
    assert answer.status_code == 422 and 'shows one' in answer.json()['error']


def test_lossless_and_gray_images(client: Any, tasks: Tasks) -> None:
    """Every format and color type becomes three channels."""
    gray = np.arange(96 * 128, dtype=np.uint8).reshape(96, 128)
    for image, suffix in (
        (gray, '.png'),
        (np.dstack([gray] * 4), '.png'),
        (gray, '.bmp'),
        (gray, '.webp'),
        (gray, '.tiff'),
    ):
        answer = client.post('/v1/tasks/cls/predict', files=dict(image=cv2.imencode(suffix, image)[1].tobytes()))
        assert answer.status_code == 200 and answer.json()['results'][0]['size'] == [96, 128]
