"""The command: a real server on a socket, and errors before it starts."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')

from protuning_lab.benchmarks import serving as benchmark
from protuning_mm.cli.serve import main, read_token, split_tasks
from protuning_mm.serving.errors import ServingError
from tests.mini import REPO
from tests.test_serving.stores import TOKEN, Tasks


class Server:
    """A server in another process."""

    def __init__(self, *arguments: object) -> None:
        command = [
            sys.executable,
            '-m',
            'protuning_mm',
            'serve',
            '--port',
            '0',
            '--device',
            'cpu',
            *map(str, arguments),
        ]
        self.process = subprocess.Popen(
            command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ}
        )
        self.log: list[str] = []
        assert self.process.stderr is not None
        self.port = 0
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r'running on http://127\.0\.0\.1:(\d+)', line):
                self.port = int(found[1])
                break
        assert self.port, ''.join(self.log)
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        self.log.extend(self.process.stderr)

    def request(self, method: str, path: str, body: bytes = b'', **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text.startswith(b'{') else text

    def predict(self, image: bytes) -> tuple[int, Any]:
        return self.request('POST', '/v1/tasks/cls/predict', image, **{'Content-Type': 'image/jpeg'})


def head(length: int) -> bytes:
    """Return the head of a request whose body has a length."""
    lines = ('POST /v1/tasks/cls/predict HTTP/1.1', 'Host: x', 'Content-Type: image/jpeg', f'Content-Length: {length}')
    return '\r\n'.join([*lines, '', '']).encode()


@pytest.fixture(scope='module')
def server(tasks: Tasks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Any test may end it; the last one does."""
    folder = tmp_path_factory.mktemp('command')
    token = folder / 'token'
    token.write_text(f'{TOKEN}\n')
    server = Server('--tasks', tasks.store(folder / 's', 'cls'), '--token-file', token, '--timeout', '3')
    yield server
    server.process.kill()
    server.process.wait()


def test_listens_on_this_machine_alone(server: Server) -> None:
    found = psutil.Process(server.process.pid).net_connections('inet')
    assert {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN} == {'127.0.0.1'}


def test_slow_clients_hold_up_nobody(server: Server, tasks: Tasks) -> None:
    """Forty send a part of their body and then nothing; each of them gets 408."""
    slow = []
    for _ in range(40):
        connection = socket.create_connection(('127.0.0.1', server.port), timeout=60)
        head = (
            'POST /v1/tasks/cls/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\n'
        )
        connection.sendall(head.encode() + bytes(100))
        slow.append(connection)
    begin = time.monotonic()
    status, answer = server.predict(tasks.images[0].read_bytes())
    assert status == 200 and answer['results'][0]['classes'], answer
    assert time.monotonic() - begin < 2.5, 'before the slow ones were refused'
    for connection in slow:
        assert connection.recv(1000).startswith(b'HTTP/1.1 408')
        connection.close()


def test_upload_over_a_socket(server: Server, tasks: Tasks) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="config"\r\n\r\ncls.py\r\n'
    body += b'--x\r\nContent-Disposition: form-data; name="delta"; filename="d.pth"\r\n\r\n'
    body += tasks.deltas['other'].read_bytes() + b'\r\n--x--\r\n'
    form = {'Content-Type': 'multipart/form-data; boundary=x'}
    assert server.request('PUT', '/v1/tasks/new', body, **form)[0] == 401
    status, answer = server.request('PUT', '/v1/tasks/new', body, Authorization=f'Bearer {TOKEN}', **form)
    assert status == 200 and answer['name'] == 'new', answer


def test_benchmark_of_a_running_server(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(['--url', f'http://127.0.0.1:{server.port}', '--clients', '2', '--seconds', '1', '--size', '32'])
    printed = capsys.readouterr().out
    assert re.search(r'requests  [1-9]\d* answered, 0 failed', printed), printed
    assert re.search(r'memory    [1-9]\d* MiB', printed) and 'latency   median' in printed


@pytest.mark.slow
@pytest.mark.parametrize('how', [['--how', 'together'], ['--how', 'separate'], ['--swap']])
def test_benchmark_of_its_own_servers(how: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(['--tasks', '2', '--depth', '18', '--clients', '2', '--seconds', '4', '--size', '32', *how])
    printed = capsys.readouterr().out
    assert re.search(r'requests  [1-9]\d* answered, (0 wrong, )?0 failed', printed), printed
    if how == ['--swap']:
        assert re.search(r'task0 replaced [1-9]', printed) and ', 0 failed; both deltas answered: True' in printed


def test_sigterm_finishes_requests(server: Server, tasks: Tasks) -> None:
    """A request that has begun when the signal comes is answered, and the exit status is 0."""
    image = tasks.images[0].read_bytes()
    connection = socket.create_connection(('127.0.0.1', server.port), timeout=60)
    connection.sendall(head(len(image)) + image[:100])
    time.sleep(0.3)
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    connection.sendall(image[100:])
    assert connection.recv(1000).startswith(b'HTTP/1.1 200')
    assert server.process.wait(30) == 0
    assert 'Traceback' not in ''.join(server.log)


def test_split_tasks(tmp_path: Path) -> None:
    assert split_tasks([str(tmp_path), 'a=b.py,c.pth']) == (tmp_path, dict(a=('b.py', 'c.pth')))
    assert split_tasks(['a=b.py,c.pth', 'd=e.py,f.pth'])[0] is None


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--tasks', 'nowhere'], "the folder of tasks 'nowhere' does not exist"),
        (['--tasks', 'one', 'two'], 'one and two: a server has one folder of tasks'),
        (['--tasks', 'a=b.py'], 'must be a folder or NAME=CONFIG,DELTA'),
        (['--tasks', 'a=b.py,c.pth', 'a=d.py,e.pth'], "'a' is named twice"),
        (['--tasks', 'a b=b.py,c.pth'], "'a b' does not"),
        (['--tasks', 'a=b.py,c.pth'], "no task can be read. task 'a': its delta is missing"),
        (['--tasks', 'a=b.py,c.pth', '--token-file', 'nowhere'], '--token-file nowhere'),
    ],
)
def test_errors_before_it_starts(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=re.escape(message)):
        main([*arguments, '--device', 'cpu'])


def test_token_file(tmp_path: Path) -> None:
    (tmp_path / 'token').write_text(' one\n')
    assert read_token(tmp_path / 'token') == 'one' and read_token(None) is None
    (tmp_path / 'token').write_text('two words')
    with pytest.raises(ServingError, match='one word'):
        read_token(tmp_path / 'token')


@pytest.mark.parametrize(
    'package',
    [
        'fastapi',
        *(pytest.param(name, marks=pytest.mark.slow) for name in ('uvicorn', 'python_multipart', 'prometheus_client')),
    ],
)
def test_a_missing_package_is_named(package: str, tmp_path: Path) -> None:
    code = (
        f'import sys; sys.modules[{package!r}] = None\n'
        'from protuning_mm.cli.serve import main\n'
        f'main(["--tasks", {str(tmp_path)!r}, "--device", "cpu"])'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f'needs the package {package}: pip install "protuning_mm[serve]"' in done.stderr, done.stderr
