"""Where jobs run: in this process, or in several others that were started once and take one job after another."""

import gc
import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Protocol

import torch
from typing_extensions import Self

from protuning_lab.study.cell import Job, Outcome, execute
from protuning_lab.study.results import ERROR
from protuning_mm.weights.atomic import write_atomically

_VISIBLE = 'CUDA_VISIBLE_DEVICES'


class Pool(Protocol):
    """What runs jobs, within ``with``."""

    size: int

    @property
    def free(self) -> bool:
        """Whether it takes another job now."""

    def submit(self, job: Job) -> None:
        """Take a job."""

    def wait(self) -> list[Outcome]:
        """Wait until some have ended."""


class Here:
    """One job at a time in this process."""

    size = 1

    def __init__(self) -> None:
        self._job: Job | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        gc.unfreeze()

    @property
    def free(self) -> bool:
        return self._job is None

    def submit(self, job: Job) -> None:
        self._job = job

    def wait(self) -> list[Outcome]:
        """Run what was submitted."""
        assert self._job is not None
        job, self._job = self._job, None
        return [execute(job)]


class Workers:
    """Several processes, each with its own GPU where there are several; one that dies fails its job alone.

    Args:
        size (int): How many.
        threads (int): torch's threads in each.
    """

    def __init__(self, size: int, threads: int) -> None:
        self.size = size
        self._threads = threads
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        self._workers = [_Worker(i, self._threads) for i in range(self.size)]
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()

    @property
    def free(self) -> bool:
        return any(worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        worker = next(worker for worker in self._workers if worker.job is None)
        if not worker.process.is_alive():  # something ended it while it had nothing to do
            worker = self._workers[worker.number] = _Worker(worker.number, self._threads)
        worker.take(job)

    def wait(self) -> list[Outcome]:
        """Wait until a job has ended, one way or the other."""
        busy = [worker for worker in self._workers if worker.job is not None]
        ready = wait([each for worker in busy for each in (worker.pipe, worker.process.sentinel)])
        outcomes = []
        for worker in busy:
            if worker.pipe in ready or worker.process.sentinel in ready:
                outcomes.append(worker.outcome())
                if not worker.process.is_alive():
                    self._workers[worker.number] = _Worker(worker.number, self._threads)
        return outcomes


class _Worker:
    def __init__(self, number: int, threads: int) -> None:
        self.number = number
        self.job: Job | None = None
        spawn = multiprocessing.get_context('spawn')
        self.pipe, theirs = spawn.Pipe()
        # not daemonic: those may have no children, and data loaders have
        self.process: BaseProcess = spawn.Process(target=_serve, args=(theirs,), name=f'worker {number}')
        changed = {'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)} | _gpu(number)
        before = {name: os.environ.get(name) for name in changed}
        os.environ.update(changed)  # read when the new process imports torch
        try:
            self.process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        theirs.close()

    def take(self, job: Job) -> None:
        self.job = job
        with suppress(ConnectionError):  # a process that has just died: outcome() tells of it
            self.pipe.send(job)

    def outcome(self) -> Outcome:
        """What the worker says, or that it died."""
        assert self.job is not None
        job, self.job = self.job, None
        try:
            outcome: Outcome = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode or 0
            said = f'signal {signal.Signals(-code).name}' if code < 0 else f'exit code {code}'
            error = f'its process ended with {said}' + ('; out of memory?' if code == -signal.SIGKILL else '')
            write_atomically(f'{error}\n'.encode(), job.folder / ERROR)
            return Outcome(job.name, error=error)
        return outcome

    def end(self) -> None:
        """End the process, whatever it is doing: a cell that is not done leaves no result."""
        self.pipe.close()
        self.process.join(timeout=0 if self.job is not None else 5)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(timeout=5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _gpu(number: int) -> dict[str, str]:
    count = torch.cuda.device_count()
    if count < 2:
        return {}
    visible = os.environ.get(_VISIBLE)
    names = visible.split(',') if visible else [str(i) for i in range(count)]
    return {_VISIBLE: names[number % len(names)]}


def _serve(pipe: Connection) -> None:
    """Run jobs until nobody hands out more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except (EOFError, ConnectionError):
            return
        pipe.send(execute(job))


def _end_with_parent() -> None:
    """A study that is killed leaves no process that goes on writing."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
