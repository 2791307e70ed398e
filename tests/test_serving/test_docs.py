"""The tutorial of docs/serving.md runs as it is written."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')

from tests.mini import REPO
from tests.test_serving.stores import Tasks


@pytest.mark.skipif(shutil.which('curl') is None, reason='needs curl')
def test_tutorial(tasks: Tasks, tmp_path: Path) -> None:
    text = (REPO / 'docs/serving.md').read_text()
    blocks = dict(re.findall(r'<!-- runs: (\w+) -->\n```bash\n(.*?)```', text, re.DOTALL))
    for name, file in (('det', 'cells'), ('seg', 'street')):
        shutil.copy(tasks.configs[name], tmp_path / ('cascade.py' if name == 'det' else 'upernet.py'))
        shutil.copy(tasks.deltas[name], tmp_path / f'{file}.pth')
    shutil.copy(tasks.deltas['det'], tmp_path / 'better.pth')
    shutil.copy(tasks.images[0], tmp_path / 'photo.jpg')
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    command = f'exec {sys.executable} -m protuning_mm serve --port {port} --device cpu'
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(REPO), os.environ.get('PYTHONPATH', '')])}
    server = subprocess.Popen(
        ['bash', '-ec', blocks['server'].replace('protuning serve', command)],
        cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(('127.0.0.1', port)) == 0:
                    break
            assert server.poll() is None
            time.sleep(0.2)
        script = blocks['client'].replace('127.0.0.1:8000', f'127.0.0.1:{port}').replace('curl ', 'curl -sS ')
        done = subprocess.run(['bash', '-ec', script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"kind":"segmentation"' in done.stdout and '{"deleted":"street"}' in done.stdout
        assert (tmp_path / 'seen.png').read_bytes().startswith(b'\x89PNG')
    finally:
        server.terminate()
        assert server.wait(30) == 0
