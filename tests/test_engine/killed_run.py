"""A training run that is killed (SIGKILL) at one chosen moment of its checkpoints' writing.

Run as ``python -m tests.test_engine.killed_run OUT WEIGHTS FIRST STEP SAVE_BEST HOOK``: forks a run for the moments
FIRST, FIRST + STEP, … until one comes through alive, each in OUT/<moment>. A moment is what the operating system sees:
half of a file's bytes written, all of them, a sync, a rename, a removal, and the moment after each.
"""

import builtins
import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from tests.tiny import TinyClassifier, runner, tuned_resnet

OPEN = open


class Moments:
    """Counts moments and dies at one of them."""

    def __init__(self, last: int, log: Path) -> None:
        self.left = last
        self.log = log

    def pass_one(self, name: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.log.write_text(name)
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, module: Any, name: str) -> None:
        """Make ``module.name`` a moment before and one after."""
        original = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.pass_one(f'before {name} {args}')
            result = original(*args, **kwargs)
            self.pass_one(f'after {name} {args}')
            return result

        setattr(module, name, call)

    def open(self, path: Any, mode: str = 'r', *args: Any, **kwargs: Any) -> Any:
        """Open a file; when it is written in bytes, its writes stop half-way for a moment."""
        file, moments = OPEN(path, mode, *args, **kwargs), self
        if mode != 'wb':
            return file
        write = file.write

        class Half:
            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def __enter__(self) -> 'Half':
                return self

            def __exit__(self, *args: Any) -> None:
                file.close()

            def write(self, data: bytes) -> None:
                write(data[: len(data) // 2])
                file.flush()
                moments.pass_one(f'half of {file.name}')
                write(data[len(data) // 2 :])

        return Half()


def train(work_dir: Path, weights: str, moment: int, save_best: str | None, hook: str) -> None:
    moments = Moments(moment, work_dir.with_suffix('.moment'))
    for name in ('fsync', 'replace', 'remove'):
        moments.around(os, name)
    io.open = builtins.open = moments.open  # pathlib's and everyone's
    hooks = dict(
        checkpoint=dict(
            type=f'protuning_mm.{hook}',
            interval=1,
            max_keep_ckpts=1,
            save_best=save_best,
            rule='greater',
        )
    )
    model = TinyClassifier(tuned_resnet(weights))
    runner(model, work_dir, epochs=2, default_hooks=hooks).train()


def main() -> None:
    out, weights, first, step, best, hook = sys.argv[1:]
    moment = int(first)
    while True:
        pid = os.fork()
        if pid == 0:
            torch.set_num_threads(1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            train(Path(out) / str(moment), weights, moment, best if best != 'none' else None, hook)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            print(moment, status)  # the first moment that the run never reached
            return
        moment += int(step)


if __name__ == '__main__':
    main()
