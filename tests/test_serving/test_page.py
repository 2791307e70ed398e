"""The page at / and the description of the API, without the internet."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')

from protuning_mm.serving.answers import to_rle
from protuning_mm.serving.app import PAGE
from tests.test_serving.stores import Tasks, serve


@pytest.fixture(scope='module')
def client(tasks: Tasks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with serve(tasks.store(tmp_path_factory.mktemp('store') / 's', 'cls')) as client:
        yield client


def test_the_page_needs_no_other_host(client: Any) -> None:
    answer = client.get('/')
    assert answer.status_code == 200 and answer.headers['content-type'].startswith('text/html')
    assert not re.search(r'(https?:)?//[\w-]+\.', answer.text.replace('// ', ''))
    assert not re.search(r'<(script|link|img|iframe)[^>]+(src|href)="(?!data:)', answer.text)
    assert "default-src 'none'" in answer.headers['content-security-policy']
    assert 'prefers-color-scheme: dark' in answer.text and 'width=device-width' in answer.text


def test_openapi(client: Any) -> None:
    described = client.get('/openapi.json').json()
    assert set(described['paths']) == {
        '/v1/tasks/{name}/predict', '/v1/predict', '/v1/tasks', '/v1/tasks/{name}', '/healthz', '/readyz', '/metrics',
    }  # fmt: skip
    content = described['paths']['/v1/predict']['post']['requestBody']['content']
    assert set(content) == {'multipart/form-data', 'application/json', 'image/*'}


@pytest.mark.skipif(shutil.which('node') is None, reason='needs node')
def test_the_page_decodes_masks(tmp_path: Path) -> None:
    """Its function reads what the server writes."""
    code = re.search(r'^function decode.*?^}', PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert code is not None
    rng = np.random.default_rng(0)
    masks = [rng.random((37, 53)) < share for share in (0, 0.01, 0.5, 1)]
    masks.append(np.kron(rng.random((4, 5)) < 0.5, np.ones((300, 200))) > 0)
    script = tmp_path / 'decode.js'
    calls = [f'console.log(Array.from(decode({json.dumps(to_rle(mask))})).join(""));' for mask in masks]
    script.write_text('\n'.join([code[0], *calls]))
    lines = subprocess.run(['node', str(script)], capture_output=True, text=True, check=True).stdout.split()
    for line, mask in zip(lines, masks, strict=True):
        assert line == ''.join(map(str, mask.astype(int).T.flatten()))
