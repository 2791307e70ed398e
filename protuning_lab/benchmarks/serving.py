"""``tools/analysis_tools/benchmark_serving.py``: throughput, latency and memory of a server of k tasks under load."""

import argparse
import http.client
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from protuning_lab.benchmarks.multitask import write_tasks
from protuning_lab.measure import MIB
from protuning_mm.cli.command import command
from protuning_mm.cli.flags import add_device, at_least
from protuning_mm.serving.errors import ServingError

_TIMEOUT = 120


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Measure a server under load')
    url = 'a running server, such as http://127.0.0.1:8000; defaults to one of random classifiers, started here'
    parser.add_argument('--url', help=url)
    parser.add_argument('--tasks', type=at_least(1), default=4, help='number of tasks of the server started here')
    parser.add_argument('--depth', type=at_least(1), default=50, help='depth of its ResNet; defaults to 50')
    parser.add_argument('--max-resident', type=at_least(1), default=8, help='tasks that it keeps in memory')
    parser.add_argument('--clients', type=at_least(1), default=4, help='clients that ask at once; defaults to 4')
    parser.add_argument('--seconds', type=at_least(1), default=20, help='duration; defaults to 20')
    parser.add_argument('--size', type=at_least(1), default=224, help='height and width of the image')
    add_device(parser, 'cpu')
    parser.set_defaults(tuning=None, prompt_stages=[0, 1, 2, 3])
    return parser.parse_args(argv)


@contextmanager
def start_server(args: argparse.Namespace) -> Iterator[str]:
    """Start a server of classifiers with random weights in another process, and yield its address.

    Raises:
        ServingError: it does not start.
    """
    with tempfile.TemporaryDirectory() as name:
        cfg, deltas = write_tasks(args, Path(name), args.tasks)
        config = Path(name) / 'config.py'
        cfg.dump(config)
        tasks = [f'task{i}={config},{delta}' for i, delta in enumerate(deltas)]
        settings = ['--port', '0', '--device', args.device, '--max-resident', str(args.max_resident)]
        process = subprocess.Popen(
            [sys.executable, '-m', 'protuning_mm', 'serve', '--tasks', *tasks, *settings],
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
                    yield found[0]
                    return
            raise ServingError(f'the server does not start: {"".join(log[-3:]).strip()}')
        finally:
            process.terminate()
            process.wait()


class Load:
    """Clients that ask a server for one task after the other, without a pause.

    Args:
        url (str): The server.
        image (bytes): The image file of all requests.
    """

    def __init__(self, url: str, image: bytes) -> None:
        self.address = urlsplit(url).netloc
        self.image = image
        self.tasks = [task['name'] for task in self._json('/v1/tasks')['tasks']]
        if not self.tasks:
            raise ServingError(f'{url} has no tasks')
        self.first = 0.0  # seconds of the first request to each task, together
        self.seconds: list[float] = []
        self.errors: list[str] = []

    def run(self, clients: int, seconds: float) -> float:
        """Ask every task once, then measure; return how long the requests have taken together."""
        begin = time.perf_counter()
        self._ask(itertools.cycle(self.tasks), lambda asked: asked < len(self.tasks))
        self.first, self.seconds = time.perf_counter() - begin, []
        begin = time.perf_counter()
        threads = []
        for i in range(clients):
            tasks = itertools.islice(itertools.cycle(self.tasks), i, None)  # each client begins with another task
            threads.append(
                threading.Thread(target=self._ask, args=(tasks, lambda _: time.perf_counter() - begin < seconds))
            )
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - begin

    def memory(self) -> float:
        """Return the resident memory of the server in MiB."""
        found = re.search(r'^process_resident_memory_bytes (\S+)', self._get('/metrics').decode(), re.MULTILINE)
        return float(found[1]) / MIB if found else float('nan')

    def _ask(self, tasks: Iterator[str], go_on: Any) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=_TIMEOUT)
        asked = 0
        while go_on(asked):
            start = time.perf_counter()
            try:
                headers = {'Content-Type': 'image/png'}
                connection.request('POST', f'/v1/tasks/{next(tasks)}/predict', self.image, headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 200:
                    self.seconds.append(time.perf_counter() - start)
                else:
                    self.errors.append(f'{answer.status} {text.decode(errors="replace")[:200]}')
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                connection.close()
            asked += 1
        connection.close()

    def _get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection(self.address, timeout=_TIMEOUT)
        connection.request('GET', path)
        text = connection.getresponse().read()
        connection.close()
        return text

    def _json(self, path: str) -> Any:
        return json.loads(self._get(path))


def measure(url: str, args: argparse.Namespace) -> None:
    """Put a server under load, and print the figures."""
    noise = np.random.default_rng(0).integers(0, 255, (args.size, args.size, 3), dtype=np.uint8)
    load = Load(url, cv2.imencode('.png', noise)[1].tobytes())
    before = load.memory()
    took = load.run(args.clients, args.seconds)
    times = sorted(load.seconds)
    print(f'{len(load.tasks)} tasks in turn, {args.clients} clients, {args.size}x{args.size}, {took:.0f} s')
    print(f'requests  {len(times)} answered, {len(load.errors)} failed')
    if times:
        p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
        print(f'rate      {len(times) / took:.1f} a second')
        print(f'latency   median {1000 * statistics.median(times):.0f} ms, 99 % within {1000 * p99:.0f} ms')
    print(f'memory    {before:.0f} MiB before the first request, {load.memory():.0f} MiB after the last')
    print(f'first     {load.first:.1f} s for one request to each task, which reads the tasks that are not in memory')
    for error in dict.fromkeys(load.errors[:3]):
        print(f'error     {error}')


@command
def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.url:
        measure(args.url, args)
        return
    with start_server(args) as url:
        measure(url, args)


if __name__ == '__main__':
    main()
