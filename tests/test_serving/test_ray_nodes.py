"""The server on two nodes of Ray, each in a network namespace with an address of its own; one of them is killed."""

import ctypes
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

pytest.importorskip('ray', reason='the extra `ray` is not installed')

from tests.mini import REPO
from tests.test_serving.stores import Tasks
from tests.test_serving.test_ray import STARTS, RayServer

SPACES = ('protuning-head', 'protuning-node')
ADDRESSES = ('10.77.0.1', '10.77.0.2')
RAY = Path(sys.executable).with_name('ray')
# the processes of a cluster know each other by a token
TOKEN = {'RAY_AUTH_MODE': 'token', 'RAY_AUTH_TOKEN': secrets.token_hex(32)}
ENVIRONMENT = {**os.environ, **TOKEN, 'PYTHONPATH': str(REPO), 'RAY_USAGE_STATS_ENABLED': '0'}
_CLONE_NEWNET = 0x40000000


def ip(*words: str) -> str:
    done = subprocess.run(['ip', *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f'ip {" ".join(words)}: {done.stderr.strip()}')
    return done.stdout


def inside(space: str, *command: object) -> list[str]:
    return ['ip', 'netns', 'exec', space, *map(str, command)]


def processes(space: str) -> list[psutil.Process]:
    """Return the processes in a network namespace."""
    found = subprocess.run(['ip', 'netns', 'pids', space], capture_output=True, text=True, check=False).stdout
    return [psutil.Process(pid) for pid in map(int, found.split()) if psutil.pid_exists(pid)]


def kill(space: str) -> None:
    for process in processes(space):
        if process.pid != os.getpid():
            process.kill()


@pytest.fixture(scope='module')
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start two nodes; return the address of the cluster."""
    if os.geteuid() or not shutil.which('ip'):
        pytest.skip('network namespaces need root and the command ip')
    try:
        for space in SPACES:
            ip('netns', 'add', space)
        ip('link', 'add', 'veth-head', 'netns', SPACES[0], 'type', 'veth', 'peer', 'veth-node', 'netns', SPACES[1])
        for space, address, link in zip(SPACES, ADDRESSES, ('veth-head', 'veth-node'), strict=True):
            ip('-n', space, 'addr', 'add', f'{address}/24', 'dev', link)
            for each in (link, 'lo'):
                ip('-n', space, 'link', 'set', each, 'up')
        for space, address in zip(SPACES, ADDRESSES, strict=True):
            where = ['--head', '--port=6379'] if space == SPACES[0] else [f'--address={ADDRESSES[0]}:6379']
            settings = ['--num-cpus=2', '--object-store-memory=100000000', '--include-dashboard=false']
            settings = settings if space == SPACES[0] else settings[:2]
            done = subprocess.run(
                inside(space, RAY, 'start', *where, f'--node-ip-address={address}', *settings),
                capture_output=True, text=True, check=False, timeout=STARTS, env=ENVIRONMENT, cwd=REPO,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
        yield f'{ADDRESSES[0]}:6379'
    finally:
        for space in SPACES:
            kill(space)
            subprocess.run(['ip', 'netns', 'del', space], capture_output=True, check=False)


@pytest.fixture(scope='module')
def server(nodes: str, tasks: Tasks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServer]:
    folder = tmp_path_factory.mktemp('nodes')
    store = tasks.store(folder / 's', 'cls', 'det', 'seg')
    arguments = ('--replicas', 2, '--tasks', store)
    server = RayServer(folder / 'log', *arguments, address=nodes, prefix=inside(SPACES[0]), environment=TOKEN)
    yield server
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0, server.log.read_text()


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    """Threads on the first node."""

    def enter() -> None:
        with Path(f'/var/run/netns/{SPACES[0]}').open() as space:
            assert ctypes.CDLL(None, use_errno=True).setns(space.fileno(), _CLONE_NEWNET) == 0

    with ThreadPoolExecutor(3, initializer=enter) as pool:
        yield pool


def replicas(server: RayServer, space: str) -> list[psutil.Process]:
    there = set(processes(space))
    return [each for each in server.replicas() if each in there]


@pytest.mark.slow
def test_a_killed_node(server: RayServer, tasks: Tasks, clients: ThreadPoolExecutor) -> None:
    """Each node has a replica. After one node is killed, two replicas are on the other one by themselves."""
    image = tasks.images[0].read_bytes()
    assert [len(replicas(server, space)) for space in SPACES] == [1, 1]
    answers: list[tuple[float, int, str | None]] = []
    done = threading.Event()

    def client(task: str) -> None:
        while not done.is_set():
            begun = time.monotonic()
            status, _, replica = server.predict(task, image)
            answers.append((begun, status, replica))

    asked = [clients.submit(client, task) for task in ('cls', 'det', 'seg')]
    time.sleep(5)
    before = list(answers)
    killed = time.monotonic()
    kill(SPACES[1])
    deadline = killed + STARTS
    while len(replicas(server, SPACES[0])) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    print(f'two replicas again after {time.monotonic() - killed:.1f} s')
    time.sleep(5)
    done.set()
    for each in asked:
        each.result()
    assert {status for _, status, _ in before} == {200}
    assert len({replica for _, _, replica in before}) == 2, 'both nodes have answered'
    after = [(begun - killed, status) for begun, status, _ in answers[len(before) :]]
    assert {status for _, status in after} <= {200, 503}
    failed = [begun for begun, status in after if status != 200]
    print('failed requests, seconds after the kill:', failed)
    assert len(failed) <= 3, 'a client has one request at a time'
    assert after[-1][1] == 200
