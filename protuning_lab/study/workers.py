"""Runs jobs in this process, or in worker processes of loky that are reused for further jobs."""

import gc
import os
import re
import signal
import threading
import time

import torch
from loky import FIRST_COMPLETED, BrokenProcessPool, Future, ProcessPoolExecutor, wait
from typing_extensions import Self

from protuning_lab.study.job import Job, Outcome, execute_job
from protuning_lab.study.results import ERROR
from protuning_mm.weights.atomic import write_atomically

_VISIBLE = 'CUDA_VISIBLE_DEVICES'


class SameProcess:
    """Runs one job at a time in this process, with the interface of :class:`Workers`."""

    size = 1

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        gc.unfreeze()

    @property
    def free(self) -> bool:
        return not self._jobs

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def wait(self) -> list[Outcome]:
        """Run the submitted job."""
        return [execute_job(self._jobs.pop())]


class Workers:
    """Runs jobs in several processes. If there are several GPUs, each process gets one.

    Each worker is a separate loky executor, because loky stops all workers of an executor when one of them dies. Here,
    only the job of the dead worker should fail.

    Args:
        size (int): Number of worker processes.
        threads (int): Number of torch threads in each worker.
    """

    def __init__(self, size: int, threads: int) -> None:
        self.size = size
        self._threads = threads
        self._workers: dict[int, ProcessPoolExecutor] = {}
        self._running: dict[Future, tuple[int, Job]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.shutdown(kill_workers=True)  # running jobs leave no result

    @property
    def free(self) -> bool:
        """Whether a worker is idle."""
        return len(self._running) < self.size

    def submit(self, job: Job) -> None:
        """Start a job in an idle worker; replace the worker if it died since its last job."""
        number = min(set(range(self.size)) - {busy for busy, _ in self._running.values()})
        try:
            if number in self._workers:
                self._workers[number].submit(int).result()  # fails if the worker is dead
        except BrokenProcessPool:
            del self._workers[number]
        if number not in self._workers:
            env = {'OMP_NUM_THREADS': str(self._threads), 'MKL_NUM_THREADS': str(self._threads)} | _gpu_environment(
                number
            )
            self._workers[number] = ProcessPoolExecutor(1, initializer=_start_worker, initargs=(os.getpid(),), env=env)
        self._running[self._workers[number].submit(execute_job, job)] = number, job

    def wait(self) -> list[Outcome]:
        """Wait until at least one job has ended."""
        outcomes = []
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            number, job = self._running.pop(future)
            try:
                outcomes.append(future.result())
            except BrokenProcessPool as error:
                del self._workers[number]
                outcomes.append(_record_death(job, error))
        return outcomes


def _record_death(job: Job, error: BrokenProcessPool) -> Outcome:
    """Write to the job's folder why its process died."""
    found = re.search(r'exit codes of the workers are {(\w+)\((-?\d+)\)', str(error))
    name, code = found.groups() if found else ('UNKNOWN', 'unknown')
    reason = f'its process ended with {f"signal {name}" if name.startswith("SIG") else f"exit code {code}"}'
    reason += '; out of memory?' if name == 'SIGKILL' else ''
    write_atomically(f'{reason}\n'.encode(), job.folder / ERROR)
    return Outcome(job.name, error=reason)


def _gpu_environment(number: int) -> dict[str, str]:
    """Return the environment that shows a worker its own GPU; empty with fewer than two GPUs."""
    count = torch.cuda.device_count()
    if count < 2:
        return {}
    visible = os.environ.get(_VISIBLE)
    names = visible.split(',') if visible else [str(i) for i in range(count)]
    return {_VISIBLE: names[number % len(names)]}


def _start_worker(parent: int) -> None:
    """Prepare a worker: it ignores Ctrl-C, which the parent handles, and ends when its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
