"""Where deltas come from: signed files alone with ``--verify``, and the Hub."""

import base64
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')
pytest.importorskip('cryptography', reason='the extra `hub` is not installed')

from huggingface_hub import constants

from protuning_mm.cli.pull_delta import pull_delta
from protuning_mm.cli.push_delta import push_delta
from protuning_mm.serving.errors import ServingError
from protuning_mm.weights import CheckpointError
from protuning_mm.weights.signature import SignatureError, read_private_key, read_public_key, sign, signature_of
from tests.fake_hub import TOKEN, fake_hub
from tests.keys import write_keys
from tests.test_serving.stores import AUTHORIZED, Tasks, leftovers, serve


def signed(folder: Path, *keys: Path) -> None:
    """Sign the delta of each task of a store, with the next key."""
    for delta, key in zip(sorted(folder.glob('*/mine.pth')), keys, strict=True):
        sign(delta, read_private_key(key))


def test_only_signed_deltas_are_served(tasks: Tasks, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / 'mine')
    other, _ = write_keys(tmp_path / 'other')
    store = tasks.store(tmp_path / 's', 'cls', 'det')
    with pytest.raises(ServingError, match='no task can be read.*cls.*is not signed with the key of this server'):
        serve(store, key=read_public_key(public))
    signed(store, private, other)
    image = tasks.images[0].read_bytes()
    with serve(store, key=read_public_key(public)) as client:
        headers = {'Content-Type': 'image/jpeg'}
        assert client.post('/v1/tasks/cls/predict', content=image, headers=headers).status_code == 200
        refused = client.post('/v1/tasks/det/predict', content=image, headers=headers)
        assert refused.status_code == 500 and 'is not signed with the key of this server' in refused.text


def test_uploads_must_be_signed(tasks: Tasks, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / 'mine')
    other, _ = write_keys(tmp_path / 'other')
    store = tasks.store(tmp_path / 's', 'cls')
    signed(store, private)

    def signature(key: Path) -> str:
        copied = Path(shutil.copy(tasks.deltas['other'], tmp_path / 'copied.pth'))
        return base64.b64encode(sign(copied, read_private_key(key)).read_bytes()).decode()

    with serve(store, key=read_public_key(public)) as client:
        for sent, status, text in (
            (None, 422, 'has no signature'),
            (signature(other), 422, 'was not signed with this key'),
            ('not base64!', 422, 'signature: must be base64'),
            (signature(private), 200, '"name":"new"'),
        ):
            form = tasks.files('other', 'cls.py')
            if sent is not None:
                form['signature'] = (None, sent)
            answer = client.put('/v1/tasks/new', files=form, headers=AUTHORIZED)
            assert answer.status_code == status and text in answer.text, answer.text
            assert len(leftovers(store)) == (2 if status == 200 else 0)
        form = {**tasks.files('other'), 'signature': (None, signature(private))}
        assert client.put('/v1/tasks/new', files=form, headers=AUTHORIZED).status_code == 200
        assert len(leftovers(store)) == 2, 'the old delta and its signature are removed'
        image = tasks.images[0].read_bytes()
        assert client.post('/v1/tasks/new/predict', files=dict(image=image)).status_code == 200
    with serve(store, key=read_public_key(public)) as client:  # the store is still signed
        assert client.post('/v1/tasks/new/predict', files=dict(image=image)).status_code == 200
        assert client.delete('/v1/tasks/new', headers=AUTHORIZED).status_code == 200
    assert leftovers(store) == []


def test_a_task_of_the_hub(tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = write_keys(tmp_path / 'mine')
    with fake_hub() as hub:
        monkeypatch.setattr(constants, 'ENDPOINT', hub.url)
        template = hub.url + '/{repo_id}/resolve/{revision}/{filename}'
        monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)
        monkeypatch.setenv('HF_TOKEN', TOKEN)
        unsigned = push_delta(tasks.deltas['cls'], 'team/unsigned')
        address = push_delta(tasks.deltas['cls'], 'team/cells', key=private)
        with pytest.raises(SignatureError, match='has no signature'):
            pull_delta(unsigned, tmp_path / 'u.safetensors', public)
        pulled = pull_delta(address, tmp_path / 'p.safetensors', public)
        assert signature_of(pulled).is_file()

        store = tasks.store(tmp_path / 's', 'cls')
        signed(store, private)
        for name, delta in (('far', address), ('bare', unsigned), ('gone', 'hf://team/gone')):
            (store / name).mkdir()
            (store / name / 'task.json').write_text(json.dumps(dict(config='cls.py', delta=delta)))
        image = dict(image=tasks.images[0].read_bytes())
        with serve(store, key=read_public_key(public)) as client:
            here, far = (client.post(f'/v1/tasks/{name}/predict', files=image).json() for name in ('cls', 'far'))
            assert here['results'] == far['results']
            hub.requests.clear()
            assert client.post('/v1/tasks/far/predict', files=image).status_code == 200
            assert hub.requests == [], 'the task is in memory'
            for name, text in (('bare', 'is not signed'), ('gone', "cannot be read; the server's log tells why")):
                answer = client.post(f'/v1/tasks/{name}/predict', files=image)
                assert answer.status_code == 500 and text in answer.text
        with pytest.raises(CheckpointError, match='must be hf://'):
            pull_delta('hf://gone')
