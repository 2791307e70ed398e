"""Deltas on the Hugging Face Hub, against a server on this machine."""

import os
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch
import yaml

pytest.importorskip('huggingface_hub', reason='the extra `hub` is not installed')

from huggingface_hub import constants

from protuning_mm import load_delta
from protuning_mm.cli.convert_delta import _print_sizes
from protuning_mm.cli.inspect_delta import inspect_delta
from protuning_mm.cli.multitask import main as draw
from protuning_mm.cli.predict import main as predict
from protuning_mm.cli.pull_delta import pull_delta
from protuning_mm.cli.push_delta import main as push
from protuning_mm.cli.push_delta import push_delta
from protuning_mm.cli.test import main as run_test
from protuning_mm.weights import CheckpointError, load_checkpoint_file
from protuning_mm.weights.deltas import RECORD, DeltaRecord
from protuning_mm.weights.hub import DELTA, HubAddress, fetch, find_checkpoint, parse_address
from tests.fake_hub import TOKEN, FakeHub, fake_hub
from tests.mini import REPO
from tests.plain import SMALL, fill, plain_resnet
from tests.test_multitask.tasks import Workshop
from tests.test_weights.deltas import META, checkpoint_of, classifier, save_delta, trained
from tests.tiny import Weights

NAME = 'someone/cells'


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as server:
        monkeypatch.setattr(constants, 'ENDPOINT', server.url)
        template = '/{repo_id}/resolve/{revision}/{filename}'
        monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', server.url + template)
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
        monkeypatch.setattr(constants, 'HF_HUB_DISABLE_XET', True)  # a protocol of its own, which the server lacks
        monkeypatch.setenv('HF_TOKEN', TOKEN)
        yield server


@pytest.fixture
def base(weights: Weights, tmp_path: Path) -> str:
    path = tmp_path / 'folder_of_mine' / 'base.pth'
    path.parent.mkdir()
    return str(shutil.copy(weights('mmdet', depth=18), path))


@pytest.fixture
def delta(base: str, tmp_path: Path) -> Path:
    return save_delta(trained(base), tmp_path / 'task.pth')


def test_a_delta_comes_back_as_it_was(hub: FakeHub, base: str, delta: Path, tmp_path: Path) -> None:
    address = push_delta(delta, NAME)
    assert address == f'hf://{NAME}@{hub.repos[NAME].head}'
    pulled = pull_delta(address, tmp_path / 'pulled.safetensors')
    expected = trained(base).state_dict()
    for path in (f'hf://{NAME}', address, pulled):
        model = classifier(base)
        meta = load_delta(model, path)
        assert list(meta['classes']) == list(META['classes'])
        found = model.state_dict()
        assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_what_is_published_names_no_folder_and_holds_no_training_state(hub: FakeHub, base: str, tmp_path: Path) -> None:
    content = load_checkpoint_file(str(save_delta(trained(base), tmp_path / 'task.pth')))
    content['optimizer'] = dict(state={0: torch.zeros(5)}, param_groups=[])
    resumable = tmp_path / 'resumable.pth'
    torch.save(content, resumable)
    before = inspect_delta(str(resumable))
    assert before['contents'][-1]['part'] == '(optimizer)' and 'folder_of_mine' in before['bases']['backbone']['source']
    push_delta(resumable, NAME)
    published = hub.files(NAME)
    assert sorted(published) == ['README.md', DELTA]
    assert all(b'folder_of_mine' not in data for data in published.values())
    info = inspect_delta(f'hf://{NAME}')
    assert info['bases']['backbone']['source'] == 'base.pth'
    assert info['bases']['backbone']['fingerprint'] == before['bases']['backbone']['fingerprint']
    assert not any(part['part'].startswith('(') for part in info['contents'])


def test_the_card(hub: FakeHub, base: str, delta: Path, tmp_path: Path) -> None:
    config = tmp_path / 'task.py'
    config.write_text("default_scope = 'mmdet'\nmodel = dict(type='FasterRCNN')\n")
    push([str(delta), NAME, '--metric', 'coco/bbox_mAP=0.42', '--license', 'apache-2.0', '--config', str(config)])
    card = hub.files(NAME)['README.md'].decode()
    _, head, text = card.split('---\n', 2)
    about = yaml.safe_load(head)
    assert about['license'] == 'apache-2.0' and about['library_name'] == 'protuning_mm' and 'pro' in about['tags']
    assert about['metrics'] == ['coco/bbox_mAP']
    assert '| coco/bbox_mAP | 0.42 |' in text and 'cat, dog, bird' in text and 'Classes (3)' in text
    assert inspect_delta(str(delta))['bases']['backbone']['fingerprint'] in text
    assert f'protuning predict config.py hf://{NAME}' in text
    assert "model = dict(type='FasterRCNN')" in hub.files(NAME)['config.py'].decode()


def test_a_second_push_leaves_nothing_of_the_first(hub: FakeHub, base: str, delta: Path, tmp_path: Path) -> None:
    config = tmp_path / 'task.py'
    config.write_text('a = 1\n')
    first = push_delta(delta, NAME, config=str(config))
    other = save_delta(trained(base, seed=6), tmp_path / 'other.pth')
    second = push_delta(other, NAME)
    assert sorted(hub.files(NAME)) == ['README.md', DELTA]
    tensors = [load_checkpoint_file(address)['state_dict'] for address in (first, second, f'hf://{NAME}')]
    assert torch.equal(tensors[1]['head.weight'], tensors[2]['head.weight'])
    assert not torch.equal(tensors[0]['head.weight'], tensors[1]['head.weight'])


def test_a_wrong_base_is_refused(hub: FakeHub, base: str, delta: Path, tmp_path: Path) -> None:
    push_delta(delta, NAME)
    other = tmp_path / 'other.pth'
    torch.save(fill(plain_resnet(depth=18, **SMALL), seed=8).state_dict(), other)
    Path(base).unlink()
    model = classifier(str(other))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match='another network'):
        load_delta(model, f'hf://{NAME}')
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_the_cache_serves_without_the_hub(
    hub: FakeHub, base: str, delta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = push_delta(delta, NAME)
    fetch(parse_address(address))
    hub.requests.clear()
    fetch(parse_address(address))  # a commit never changes
    assert hub.requests == []
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    load_delta(classifier(base), f'hf://{NAME}@{address.rpartition("@")[2]}')


@pytest.mark.parametrize(
    ('address', 'message'),
    [
        ('hf://someone/nothing', 'there is no such repository at http://127.0.0.1'),
        (f'hf://{NAME}@v9', 'the repository has no such branch, tag or commit'),
        (f'hf://{NAME}/other.pth', 'the repository has no such file'),
        ('hf://cells', 'must be hf://owner/name'),
        ('hf://../cells', 'must be hf://owner/name'),
        (f'hf://{NAME}/../../x', 'must be hf://owner/name'),
        (f'hf://{NAME}@', 'must be hf://owner/name'),
    ],
)
def test_errors_of_fetching(hub: FakeHub, delta: Path, address: str, message: str) -> None:
    push_delta(delta, NAME)
    with pytest.raises(CheckpointError, match=re.escape(message)) as refused:
        load_checkpoint_file(address)
    assert address in str(refused.value)


def test_a_private_repository_needs_the_token(hub: FakeHub, delta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push_delta(delta, NAME, private=True)
    fetch(HubAddress(NAME))
    monkeypatch.setenv('HF_TOKEN', 'hf_wrong')
    with pytest.raises(CheckpointError, match='or it is private and HF_TOKEN does not allow to read it'):
        fetch(HubAddress(NAME, file='README.md'))


@pytest.mark.parametrize('token', ['hf_wrong', None])
def test_pushing_needs_the_token(
    hub: FakeHub, delta: Path, token: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, 'HF_TOKEN_PATH', str(tmp_path / 'no_token'))
    monkeypatch.setattr(constants, 'HF_STORED_TOKENS_PATH', str(tmp_path / 'no_tokens'))
    if token is None:
        monkeypatch.delenv('HF_TOKEN')
    else:
        monkeypatch.setenv('HF_TOKEN', token)
    with pytest.raises(CheckpointError, match=f'hf://{NAME}: '):
        push_delta(delta, NAME)
    assert not hub.repos


def test_the_hub_does_not_answer(delta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_hub() as gone:
        pass
    monkeypatch.setattr(constants, 'ENDPOINT', gone.url)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', gone.url + '/{repo_id}/resolve/{revision}/{filename}')
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    for call in (lambda: fetch(HubAddress(NAME)), lambda: push_delta(delta, NAME)):
        with pytest.raises(CheckpointError, match=f'hf://{NAME}: {gone.url} does not answer as expected'):
            call()


def test_only_whole_deltas_are_published(hub: FakeHub, base: str, delta: Path, tmp_path: Path) -> None:
    whole = tmp_path / 'whole.pth'
    torch.save(checkpoint_of(trained(base)), whole)
    damaged = tmp_path / 'damaged.pth'
    damaged.write_bytes(delta.read_bytes()[:-100])
    for path, message in ((whole, 'is not a delta'), (damaged, 'damaged'), (tmp_path / 'none.pth', 'does not exist')):
        with pytest.raises(CheckpointError, match=message):
            push_delta(path, NAME)
    with pytest.raises(CheckpointError, match='must be owner/name'):
        push_delta(delta, f'{NAME}@v1')
    assert not hub.repos


def test_pull_writes_nothing_of_a_damaged_file(hub: FakeHub, delta: Path, tmp_path: Path) -> None:
    push_delta(delta, NAME)
    files = dict(hub.files(NAME))
    files[DELTA] = files[DELTA][:-1] + bytes([files[DELTA][-1] ^ 1])
    hub.repos[NAME].commit(files)
    target = tmp_path / 'mine.safetensors'
    target.write_bytes(b'old')
    with pytest.raises(CheckpointError):
        pull_delta(NAME, target)
    assert target.read_bytes() == b'old'
    with pytest.raises(CheckpointError, match=r'must end in \.safetensors'):
        pull_delta(NAME, tmp_path / 'mine.pth')


def test_no_file_makes_us_ask_the_hub(hub: FakeHub, base: str, delta: Path) -> None:
    """A delta may not name the Hub as the source of its base: only who runs the program may."""
    content = torch.load(delta, weights_only=False)
    record = DeltaRecord.from_tensor(content['state_dict'][RECORD])
    renamed = {name: replace(each, source=f'hf://{NAME}') for name, each in record.bases.items()}
    content['state_dict'][RECORD] = replace(record, bases=renamed).to_tensor()
    torch.save(content, delta)
    with pytest.raises(CheckpointError, match='a checkpoint may only name'):
        load_delta(classifier(None), delta)
    assert not hub.requests


def test_sizes_of_a_conversion(hub: FakeHub, delta: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push_delta(delta, NAME)
    _print_sizes(Namespace(checkpoint=f'hf://{NAME}', out=str(delta)))
    assert f'(of {len(hub.files(NAME)[DELTA]) / 1e6:.2f} MB)' in capsys.readouterr().out


def test_find_checkpoint(hub: FakeHub, delta: Path) -> None:
    push_delta(delta, NAME)
    assert find_checkpoint(delta) == delta
    assert find_checkpoint(f'hf://{NAME}').name == DELTA
    with pytest.raises(CheckpointError, match="'none.pth' does not exist"):
        find_checkpoint('none.pth')


def test_commands_with_hf_endpoint(base: str, delta: Path, tmp_path: Path) -> None:
    """As a user runs them."""
    with fake_hub() as server:
        env = {**os.environ, 'HF_ENDPOINT': server.url, 'HF_HOME': str(tmp_path / 'home'), 'HF_TOKEN': TOKEN,
               'HF_HUB_DISABLE_XET': '1'}  # fmt: skip
        printed = ''
        for words in (['push', delta, NAME], ['pull', NAME, '--out', tmp_path / 'p.safetensors']):
            command = [sys.executable, '-m', 'protuning_mm', *map(str, words)]
            done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            printed += done.stdout
        assert printed.startswith(f'hf://{NAME}@{server.repos[NAME].head}\n')
        assert 'checksum verified' in printed and '3 classes: cat, dog, bird' in printed
    load_delta(classifier(base), tmp_path / 'p.safetensors')


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(CheckpointError, match=re.escape('pip install "protuning_mm[hub]"')):
        load_checkpoint_file(f'hf://{NAME}')


@pytest.mark.slow
def test_commands_that_take_a_checkpoint_take_an_address(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same results as of the file; a drawn picture of the same size."""
    from mmdet.apis import DetInferencer, init_detector

    (tmp_path / 'tasks').mkdir()
    workshop = Workshop(tmp_path / 'tasks')
    cfg, task = workshop.task('det', form='delta')
    config = str(tmp_path / 'det.py')
    cfg.dump(config)
    address = push_delta(task, NAME)
    # a published delta names no folder, and init_detector drops init_cfg
    monkeypatch.setenv('PROTUNING_MM_BASE', str(workshop.base))
    image = workshop.images[0]
    monkeypatch.chdir(tmp_path)
    results = []
    for checkpoint in (task, address):
        model = init_detector(config, checkpoint, device='cpu')
        loaded = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        found = DetInferencer(config, checkpoint, device='cpu')(image)['predictions'][0]
        run_test([config, checkpoint, '--work-dir', str(tmp_path / 'tested')])
        metrics = sorted(set(re.findall(r'coco/\w+: +[-\d.]+', capsys.readouterr().out)))
        assert metrics
        predict([config, checkpoint, image, '--out', str(tmp_path / 'predicted')])
        (predictions,) = (tmp_path / 'predicted/preds').glob('*.json')
        draw([f'--task=det={config},{checkpoint}', '--image', image, '--out', str(tmp_path / 'drawn')])
        (drawn,) = (tmp_path / 'drawn').glob('*.png')
        results.append((loaded, found, metrics, predictions.read_bytes(), cv2.imread(str(drawn)).shape))
        shutil.rmtree(tmp_path / 'predicted')
        shutil.rmtree(tmp_path / 'drawn')
    (by_file, *of_file), (by_address, *of_address) = results
    assert by_file.keys() == by_address.keys() and all(torch.equal(by_file[key], by_address[key]) for key in by_file)
    assert of_file == of_address
