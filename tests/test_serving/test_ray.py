"""The server on Ray Serve: a real Ray on this machine, with two replicas."""

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

pytest.importorskip('ray', reason='the extra `ray` is not installed')

from protuning_mm.cli.serve import main, parse_args
from protuning_mm.cli.serve_on_ray import build_application
from protuning_mm.serving.errors import ServingError
from tests.mini import REPO
from tests.test_serving.stores import TOKEN, Tasks

JPEG = {'Content-Type': 'image/jpeg'}
STARTS = 240  # seconds


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as free:
        port: int = free.getsockname()[1]
        return port


class RayServer:
    """``protuning serve --ray`` in another process; ``address`` is a cluster, ``prefix`` runs the command elsewhere."""

    def __init__(
        self,
        log: Path,
        *arguments: object,
        address: str = 'local',
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        command = [*prefix, sys.executable, '-m', 'protuning_mm', 'serve', '--ray', address]
        command += ['--port', str(self.port), '--device', 'cpu']
        self.log = log
        with log.open('w') as file:
            self.process = subprocess.Popen(
                [*command, *map(str, arguments)],
                cwd=REPO, stdout=file, stderr=file, env={**os.environ, **(environment or {}), 'PYTHONPATH': str(REPO)},
            )  # fmt: skip
        deadline = time.monotonic() + STARTS
        while 'running on http' not in log.read_text():
            assert self.process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)

    def request(self, method: str, path: str, body: bytes = b'', **headers: str) -> tuple[int, Any, str | None]:
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        content = json.loads(text) if text.startswith(b'{') else text
        return answer.status, content, answer.getheader('x-replica')

    def predict(self, task: str, image: bytes) -> tuple[int, Any, str | None]:
        return self.request('POST', f'/v1/tasks/{task}/predict', image, **JPEG)

    def processes(self) -> list[psutil.Process]:
        """All processes of this Ray; its daemons are no children of the command."""
        session = re.search(r'session_[\d_-]+', ' '.join(' '.join(each) for each in self._lines()))
        assert session, 'Ray does not run'
        return [
            each
            for each in psutil.process_iter()
            if session[0] in ' '.join(_line(each)) or 'ray::' in ' '.join(_line(each))
        ]

    def _lines(self) -> list[list[str]]:
        return [_line(each) for each in psutil.process_iter() if 'raylet' in ' '.join(_line(each))]

    def replicas(self) -> list[psutil.Process]:
        return [
            each for each in psutil.process_iter() if re.search(r'ray::.*protuning[:#]Tasks', ' '.join(_line(each)))
        ]


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture(scope='module')
def server(tasks: Tasks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServer]:
    folder = tmp_path_factory.mktemp('ray')
    token = folder / 'token'
    token.write_text(TOKEN)
    store = tasks.store(folder / 's', 'cls', 'det', 'seg')
    server = RayServer(folder / 'log', '--replicas', 2, '--tasks', store, '--token-file', token)
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.log.read_text()
    assert server.replicas() == []


@pytest.mark.slow
def test_a_task_stays_with_its_replica(server: RayServer, tasks: Tasks) -> None:
    image = tasks.images[0].read_bytes()
    found: dict[str, set[str | None]] = {}
    for _ in range(5):
        for task in ('cls', 'det', 'seg'):
            status, answer, replica = server.predict(task, image)
            assert status == 200 and answer['task'] == task, answer
            found.setdefault(task, set()).add(replica)
    assert all(len(replicas) == 1 for replicas in found.values()), found
    assert len(set.union(*found.values())) == 2, 'both replicas have tasks'


@pytest.mark.slow
def test_only_this_machine_can_reach_a_port(server: RayServer) -> None:
    listening = {
        (each.laddr.ip.removeprefix('::ffff:'), ' '.join(_line(process))[:80])
        for process in server.processes()
        for each in process.net_connections('inet')
        if each.status == psutil.CONN_LISTEN
    }
    assert listening and not [each for each in listening if each[0] != '127.0.0.1']


@pytest.mark.slow
def test_errors_are_those_of_one_process(server: RayServer, tasks: Tasks) -> None:
    image = tasks.images[0].read_bytes()
    assert server.predict('nothing', image)[0] == 404
    status, answer, _ = server.predict('cls', b'no image')
    assert status == 415 and 'is not an image' in answer['error']
    too_large = {**JPEG, 'Content-Length': '40000000'}
    assert server.request('POST', '/v1/tasks/cls/predict', **too_large)[0] == 413
    assert server.request('DELETE', '/v1/tasks/cls')[0] == 401
    assert server.request('PATCH', '/v1/tasks')[0] == 405
    status, answer, _ = server.request('POST', '/v1/predict?tasks=cls,det', image, **JPEG)
    assert status == 200 and set(answer['results']) == {'cls', 'det'}
    assert server.request('GET', '/')[1].startswith(b'<!doctype html>')


@pytest.mark.slow
def test_an_upload_reaches_all_replicas(server: RayServer, tasks: Tasks) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="config"\r\n\r\ncls.py\r\n'
    form += b'--x\r\nContent-Disposition: form-data; name="delta"; filename="d.pth"\r\n\r\n'
    form += tasks.deltas['other'].read_bytes() + b'\r\n--x--\r\n'
    headers = {'Content-Type': 'multipart/form-data; boundary=x', 'Authorization': f'Bearer {TOKEN}'}
    status, answer, _ = server.request('PUT', '/v1/tasks/new', form, **headers)
    assert status == 200, answer
    seen = {}
    for _ in range(40):  # a request for several tasks goes to any replica
        status, answer, replica = server.request(
            'POST', '/v1/predict?tasks=new,cls', tasks.images[0].read_bytes(), **JPEG
        )
        assert status == 200, answer
        seen[replica] = answer['results']['new']['classes']
        if len(seen) == 2:
            break
    first, second = seen.values()
    assert first == second
    assert server.request('DELETE', '/v1/tasks/new', **headers)[0] == 200
    assert server.predict('new', tasks.images[0].read_bytes())[0] == 404


@pytest.mark.slow
def test_a_killed_replica_is_replaced(server: RayServer, tasks: Tasks) -> None:
    """Only requests that were running may fail, and two replicas are there again by themselves."""
    image = tasks.images[0].read_bytes()
    answers: list[tuple[float, int]] = []
    done = threading.Event()

    def client(task: str) -> None:
        while not done.is_set():
            begun = time.monotonic()
            answers.append((begun, server.predict(task, image)[0]))

    clients = [threading.Thread(target=client, args=(task,)) for task in ('cls', 'det', 'seg')]
    for each in clients:
        each.start()
    time.sleep(3)
    killed = time.monotonic()
    victim = server.replicas()[0]
    victim.kill()
    deadline = killed + STARTS
    while len([each for each in server.replicas() if each.pid != victim.pid]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    time.sleep(3)
    done.set()
    for each in clients:
        each.join()
    assert {status for _, status in answers} <= {200, 503}
    failed = [begun - killed for begun, status in answers if status == 503]
    assert len(failed) <= len(clients), 'a client has one request at a time'
    assert answers[-1][1] == 200


@pytest.mark.slow
def test_no_task_can_be_read(tasks: Tasks, tmp_path: Path) -> None:
    """The command ends with the reason, which a replica has found."""
    store = tasks.store(tmp_path / 's', 'cls')
    (store / 'cls/mine.pth').write_bytes(b'no delta')
    command = [sys.executable, '-m', 'protuning_mm', 'serve', '--ray', '--device', 'cpu', '--port', str(free_port())]
    done = subprocess.run(
        [*command, '--tasks', str(store)], cwd=REPO, capture_output=True, text=True, check=False, timeout=STARTS
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(r"no task can be read\. task 'cls' cannot be read.*mine\.pth", last), done.stderr[-3000:]


def test_arguments_of_a_config_file(tasks: Tasks, tmp_path: Path) -> None:
    store = tasks.store(tmp_path, 'cls')
    application = build_application(dict(tasks=[str(store)], max_resident=3, replicas='1-4', device='cpu'))
    deployments = {
        application._bound_deployment.name,
        application._bound_deployment.init_args[1]._bound_deployment.name,
    }
    assert deployments == {'Front', 'Tasks'}
    replicas = application._bound_deployment.init_args[1]._bound_deployment
    assert replicas._deployment_config.autoscaling_config.max_replicas == 4
    with pytest.raises(ServingError, match='are not flags of protuning serve'):
        build_application(dict(tasks=[str(store)], max_residents=3))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--tasks', 'nowhere'], "the folder of tasks .*nowhere' does not exist"),
        (['--tasks', '.', '--token-file', 'none'], '--token-file'),
        (['--tasks', '.', '--verify', 'none'], 'No such file'),
        (['--tasks', '.', '--port', '0'], 'Ray Serve needs a port'),
    ],
)
def test_errors_before_ray_starts(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        main([*arguments, '--ray', '--device', 'cpu'])


@pytest.mark.parametrize(
    ('written', 'expected'), [('3', (3, 3)), ('1-4', (1, 4)), ('4-1', None), ('0', None), ('a', None)]
)
def test_numbers_of_replicas(written: str, expected: tuple[int, int] | None) -> None:
    if expected is None:
        with pytest.raises(SystemExit):
            parse_args(['--tasks', '.', '--replicas', written])
    else:
        assert parse_args(['--tasks', '.', '--replicas', written]).replicas == expected


def test_files_of_the_docs_can_be_read() -> None:
    text = (REPO / 'docs/serving.md').read_text()
    config, sketch = (yaml.safe_load(block) for block in re.findall(r'```yaml\n(.*?)```', text, re.DOTALL))
    for application in (config['applications'][0], yaml.safe_load(sketch['spec']['serveConfigV2'])['applications'][0]):
        assert application['import_path'] == f'{build_application.__module__}:{build_application.__name__}'
        assert {each['name'] for each in application['deployments']} <= {'Front', 'Tasks'}
