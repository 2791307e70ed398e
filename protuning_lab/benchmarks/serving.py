"""``tools/analysis_tools/benchmark_serving.py``: throughput, latency and memory of a server of k tasks under load."""

import argparse
import http.client
import itertools
import json
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from protuning_lab.benchmarks.multitask import write_tasks
from protuning_lab.measure import MIB
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_device, at_least
from protuning_mm.multitask import MultiTask
from protuning_mm.serving.errors import ServingError

_TIMEOUT = 120
_TOLERANCE = 1e-4  # of a score


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Measure a server under load')
    url = 'a running server, such as http://127.0.0.1:8000; defaults to one of random classifiers, started here'
    parser.add_argument('--url', help=url)
    parser.add_argument('--tasks', type=at_least(1), default=4, help='number of tasks of the server started here')
    parser.add_argument('--depth', type=at_least(1), default=50, help='depth of its ResNet; defaults to 50')
    parser.add_argument('--max-resident', default='8', help='tasks, or MiB of tasks, that it keeps in memory')
    parser.add_argument('--clients', type=at_least(1), default=4, help='clients that ask at once; defaults to 4')
    parser.add_argument('--seconds', type=at_least(1), default=20, help='duration; defaults to 20')
    parser.add_argument('--requests', type=at_least(1), help='number of requests, in place of a duration')
    parser.add_argument('--size', type=at_least(1), default=224, help='height and width of the image')
    swap = 'replace a task of the server started here once a second, and compare every answer with a single model'
    parser.add_argument('--swap', action='store_true', help=swap)
    how = 'in turn: one task a request; together: all tasks a request; separate: in turn, with a server for each task'
    parser.add_argument('--how', choices=('in turn', 'together', 'separate'), default='in turn', help=how)
    stages = 'stages with prompts; defaults to all'
    parser.add_argument('--prompt-stages', type=int, nargs='+', default=[0, 1, 2, 3], metavar='N', help=stages)
    add_device(parser, 'cpu')
    parser.set_defaults(tuning=None)
    return parser.parse_args(argv)


@dataclass(frozen=True)
class Started:
    """A server that was started here.

    Args:
        url (str): Its address.
        token (str): Whoever names it may change tasks.
        config (Path): The config of all tasks.
        deltas (list[Path]): Their deltas, and further ones of no task.
    """

    url: str
    token: str
    config: Path
    deltas: list[Path]


@contextmanager
def start_server(args: argparse.Namespace, further: int = 0) -> Iterator[Started]:
    """Start a server of classifiers with random weights in another process.

    Args:
        args (Namespace): The flags.
        further (int): Deltas to write that no task has. Defaults to 0.

    Raises:
        ServingError: it does not start.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cfg, deltas = write_tasks(args, folder, args.tasks + further)
        store, config = folder / 'store', folder / 'store/configs/config.py'
        config.parent.mkdir(parents=True)
        cfg.dump(config)
        for i, delta in enumerate(deltas[: args.tasks]):
            (store / f'task{i}').mkdir()
            record = dict(config='config.py', delta=str(delta))
            (store / f'task{i}/task.json').write_text(json.dumps(record))
        token = secrets.token_hex()
        (folder / 'token').write_text(token)
        settings = ['--port', '0', '--device', args.device, '--max-resident', args.max_resident]
        settings += ['--token-file', str(folder / 'token')]
        process = subprocess.Popen(
            [sys.executable, '-m', 'protuning_mm', 'serve', '--tasks', str(store), *settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        log = []
        try:
            for line in process.stderr:
                log.append(line)
                if found := re.search(r'http://[\d.]+:\d+', line):
                    threading.Thread(target=process.stderr.read, daemon=True).start()
                    yield Started(found[0], token, config, deltas)
                    return
            raise ServingError(f'the server does not start: {"".join(log[-3:]).strip()}')
        finally:
            process.terminate()
            process.wait()


class Load:
    """Clients that ask servers for one task after the other, without a pause.

    Args:
        urls (Sequence[str]): The servers.
        image (bytes): The image file of all requests.
        together (bool): Whether each request asks for all tasks of its server. Defaults to False.
    """

    def __init__(self, urls: Sequence[str], image: bytes, together: bool = False) -> None:
        self.addresses = [urlsplit(url).netloc for url in urls]
        self.image = image
        self.targets: list[tuple[str, str]] = []  # address and path of each kind of request
        self.tasks = 0
        for address in self.addresses:
            names = [task['name'] for task in json.loads(self._get(address, '/v1/tasks'))['tasks']]
            if not names:
                raise ServingError(f'{address} has no tasks')
            self.tasks += len(names)
            paths = [f'/v1/tasks/{name}/predict' for name in names]
            self.targets += [
                (address, path) for path in ([f'/v1/predict?tasks={",".join(names)}'] if together else paths)
            ]
        self.answers = self.tasks // len(self.targets)  # of tasks in one request
        self.first: list[float] = []  # seconds of the first request to each task
        self.seconds: list[float] = []
        self.computing: list[float] = []  # seconds that the server has computed for each request
        self.errors: list[str] = []
        self.memory: list[float] = []  # MiB, once a second

    def ask_once(self) -> None:
        """Ask every task once."""
        self._ask(iter(self.targets), lambda: True)
        self.first, self.seconds = self.seconds, []

    def run(self, clients: int, seconds: float, requests: int | None = None) -> float:
        """Ask for some seconds, or a number of requests; return how long it has taken."""
        begin, counter = time.perf_counter(), itertools.count()
        ended = threading.Event()

        def go_on() -> bool:
            return next(counter) < requests if requests else time.perf_counter() - begin < seconds

        def watch() -> None:
            while not ended.wait(1):
                self.memory.append(self.read_memory())

        watching = threading.Thread(target=watch)
        threads = []
        for i in range(clients):
            targets = itertools.islice(itertools.cycle(self.targets), i, None)  # each begins with another task
            threads.append(threading.Thread(target=self._ask, args=(targets, go_on)))
        for thread in (watching, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begin
        ended.set()
        watching.join()
        return took

    def check(self, answer: Mapping[str, Any]) -> None:
        """Look at an answer; called in the client's thread."""
        self.computing.append(answer['seconds'])

    def read_memory(self) -> float:
        """Return the resident memory of the servers in MiB."""
        return self.read_metric('process_resident_memory_bytes') / MIB

    def read_metric(self, name: str) -> float:
        """Return the sum of a metric over the servers."""
        texts = [self._get(address, '/metrics').decode() for address in self.addresses]
        found = [re.search(rf'^{name} (\S+)', text, re.MULTILINE) for text in texts]
        return sum(float(each[1]) if each else float('nan') for each in found)

    def _ask(self, targets: Iterator[tuple[str, str]], go_on: Callable[[], bool]) -> None:
        connections = {address: http.client.HTTPConnection(address, timeout=_TIMEOUT) for address in self.addresses}
        for address, path in targets:
            if not go_on():
                break
            start = time.perf_counter()
            try:
                connections[address].request('POST', path, self.image, {'Content-Type': 'image/png'})
                answer = connections[address].getresponse()
                text = answer.read()
                if answer.status == 200:
                    self.seconds.append(time.perf_counter() - start)
                    self.check(json.loads(text))
                else:
                    self.errors.append(f'{answer.status} {text.decode(errors="replace")[:200]}')
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                connections[address].close()
        for connection in connections.values():
            connection.close()

    def _get(self, address: str, path: str) -> bytes:
        connection = http.client.HTTPConnection(address, timeout=_TIMEOUT)
        connection.request('GET', path)
        text = connection.getresponse().read()
        connection.close()
        return text


def make_image(size: int) -> bytes:
    """Make a PNG file of noise."""
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    return cv2.imencode('.png', noise)[1].tobytes()


def measure(urls: Sequence[str], args: argparse.Namespace) -> None:
    """Put servers under load, and print the figures."""
    load = Load(urls, make_image(args.size), args.how == 'together')
    before, loaded = load.read_memory(), _loads(load)
    load.ask_once()
    reading = [late - early for late, early in zip(_loads(load), loaded, strict=True)]
    computing, load.computing = load.computing, []
    took = load.run(args.clients, args.seconds, args.requests)
    times = sorted(load.seconds)
    print(f'{load.tasks} tasks {args.how}, {args.clients} clients, {args.size}x{args.size}, {took:.0f} s')
    print(f'requests  {len(times)} answered, {len(load.errors)} failed')
    if times:
        p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
        print(f'rate      {load.answers * len(times) / took:.2f} answers of a task a second')
        print(f'latency   median {1000 * statistics.median(times):.0f} ms, 99 % within {1000 * p99:.0f} ms')
    if load.first:
        parts = f'computing {1000 * statistics.median(computing):.0f} ms'
        if reading[1]:
            parts += f', reading a task {1000 * reading[0] / reading[1]:.0f} ms (mean of {reading[1]:.0f})'
        print(
            f'first     median {1000 * statistics.median(load.first):.0f} ms for the first request to a task: {parts}'
        )
    seconds, number = _loads(load)
    print(f'reading   {number:.0f} times a task, {1000 * seconds / number:.0f} ms each')
    after = load.read_memory()
    most = max([*load.memory, after])
    print(
        f'memory    {before:.0f} MiB before the first request, {most:.0f} MiB at most, {after:.0f} MiB after the last'
    )
    for error in dict.fromkeys(load.errors[:3]):
        print(f'error     {error}')


def _loads(load: Load) -> list[float]:
    return [load.read_metric(f'protuning_task_load_seconds_{each}') for each in ('sum', 'count')]


class CheckedLoad(Load):
    """Clients that compare each answer with those that single models give.

    Args:
        started (Started): The server.
        image (bytes): The image file of all requests.
        right (Mapping): Task -> the answers that are right: the scores of its best classes.
    """

    def __init__(self, started: Started, image: bytes, right: Mapping[str, Sequence[Mapping[int, float]]]) -> None:
        super().__init__([started.url], image)
        self.right = right
        self.wrong = 0
        self.seen: set[tuple[str, int]] = set()  # task, and which of its right answers it gave

    def check(self, answer: Mapping[str, Any]) -> None:
        found = {each['label']: each['score'] for each in answer['results'][0]['classes']}
        for i, right in enumerate(self.right[answer['task']]):
            if all(abs(right[label] - score) < _TOLERANCE for label, score in found.items()):
                self.seen.add((answer['task'], i))
                return
        self.wrong += 1


def measure_swaps(started: Started, args: argparse.Namespace) -> None:
    """Replace task0 once a second by one of two deltas under load, and print the figures."""
    image = make_image(args.size)
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    single = []
    for delta in started.deltas:
        model = MultiTask(args.device)
        model.add('single', started.config, delta)
        scores = model.predict(dict(single=pixels))['single'][0].pred_score
        single.append({i: float(score) for i, score in enumerate(scores)})
    right = {f'task{i}': [single[i]] for i in range(args.tasks)}
    right['task0'].append(single[-1])
    load = CheckedLoad(started, image, right)
    ended = threading.Event()
    swaps: list[float] = []
    failed: list[str] = []

    def swap() -> None:
        for delta in itertools.cycle([started.deltas[-1], started.deltas[0]]):
            begin = time.perf_counter()
            if ended.is_set():
                return
            status, text = _put(load.addresses[0], started.token, delta.read_bytes())
            swaps.append(time.perf_counter() - begin)
            failed.extend([] if status == 200 else [text])
            ended.wait(max(0.0, begin + 1 - time.perf_counter()))

    swapping = threading.Thread(target=swap)
    swapping.start()
    took = load.run(args.clients, args.seconds, args.requests)
    ended.set()
    swapping.join()
    both = {('task0', 0), ('task0', 1)} <= load.seen
    print(f'{args.tasks} tasks in turn, {args.clients} clients, {took:.0f} s, task0 replaced {len(swaps)} times')
    print(f'requests  {len(load.seconds)} answered, {load.wrong} wrong, {len(load.errors)} failed')
    print(f'swaps     median {statistics.median(swaps):.2f} s, {len(failed)} failed; both deltas answered: {both}')
    tenth = max(1, len(load.memory) // 10)
    print(f'memory    {", ".join(f"{each:.0f}" for each in load.memory[::tenth])} MiB')
    for error in dict.fromkeys([*load.errors[:3], *failed[:3]]):
        print(f'error     {error}')


def _put(address: str, token: str, delta: bytes) -> tuple[int, str]:
    head = b'--x\r\nContent-Disposition: form-data; name="delta"; filename="d.pth"\r\n\r\n'
    headers = {'Authorization': f'Bearer {token}', 'Content-Type': 'multipart/form-data; boundary=x'}
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT)
    try:
        connection.request('PUT', '/v1/tasks/task0', head + delta + b'\r\n--x--\r\n', headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors='replace')[:200]
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.url:
        measure([args.url], args)
        return
    if args.swap:
        with start_server(args, further=1) as started:
            measure_swaps(started, args)
        return
    if args.how == 'separate':
        with ExitStack() as servers:
            one = argparse.Namespace(**{**vars(args), 'tasks': 1})
            measure([servers.enter_context(start_server(one)).url for _ in range(args.tasks)], args)
        return
    with start_server(args) as started:
        size = sum(delta.stat().st_size for delta in started.deltas) / MIB
        print(f'deltas    {size:.0f} MiB in {len(started.deltas)} files')
        measure([started.url], args)


if __name__ == '__main__':
    main()
