"""Runs a command that takes minutes and says little: its words go to a log, and one line tells that it lives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Mapping, Sequence

# how often the line is written: often where it overwrites itself, rarely where every line stays
SECONDS_ON_A_TERMINAL, SECONDS_IN_A_FILE = 0.5, 30.0


class CommandError(Exception):
    """A command ended with an error; carries the end of what it said."""


def clock(seconds: float) -> str:
    """Write 83.2 as 1:23."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def tail(log: Path, lines: int) -> str:
    """The last lines of a log, less pip's notes on local indices that lack a package."""
    words = log.read_text(errors='replace').splitlines()
    return '\n'.join([line for line in words if line.strip() and not line.startswith('WARNING: Location')][-lines:])


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: asked first, since pip then puts back what it was replacing."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(
    title: str,
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    detail: Callable[[], str] = lambda: '',
) -> None:
    """Run a command to its end.

    Args:
        title (str): What stands before the elapsed time.
        command (Sequence[str]): The command.
        log (Path): File that its output is added to.
        env (Mapping[str, str]): Its environment.
        detail (Callable): Tells what stands after the elapsed time.

    Raises:
        CommandError: Where it ends with anything but 0.
    """
    terminal = sys.stdout.isatty()
    every = SECONDS_ON_A_TERMINAL if terminal else SECONDS_IN_A_FILE
    start = shown = time.monotonic()

    def show(end: str) -> None:
        line = f'{title}  {clock(time.monotonic() - start)}  {detail()}'.rstrip()
        print(f'\r\033[K{line}' if terminal else line, end=end, flush=True)

    print(title, end='' if terminal else '\n', flush=True)
    with log.open('a') as words:
        words.write(f'\n$ {" ".join(command)}\n')
        words.flush()
        # in a process group of its own, so that an interruption ends the compilers below pip too, and in good order
        process = subprocess.Popen(
            list(command), stdout=words, stderr=subprocess.STDOUT, env=dict(env), start_new_session=True
        )
        try:
            while process.poll() is None:
                time.sleep(0.2)
                if time.monotonic() - shown >= every:
                    shown = time.monotonic()
                    show('' if terminal else '\n')
        except BaseException:
            stop(process)
            raise
    show('\n')
    if process.returncode:
        raise CommandError(f'{" ".join(command)}\nended with {process.returncode}:\n\n{tail(log, 25)}')
