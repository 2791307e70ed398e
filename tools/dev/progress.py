"""Runs a long command: its output goes to a log, and one line shows the progress."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Mapping, Sequence

# seconds between two progress lines; a terminal overwrites the line, a file keeps every line
SECONDS_ON_A_TERMINAL, SECONDS_IN_A_FILE = 0.5, 30.0


class CommandError(Exception):
    """A command failed; the message has the end of its output."""


def format_time(seconds: float) -> str:
    """Format 83.2 as 1:23."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def last_lines(log: Path, lines: int) -> str:
    """Return the last lines of a log, without pip's warnings about local indices that lack a package."""
    text = log.read_text(errors='replace').splitlines()
    return '\n'.join([line for line in text if line.strip() and not line.startswith('WARNING: Location')][-lines:])


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process and its children, first with SIGINT, on which pip restores packages that it was replacing."""
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
    """Run a command, and show the elapsed time.

    Args:
        title (str): Text before the elapsed time.
        command (Sequence[str]): The command.
        log (Path): File to which its output is appended.
        env (Mapping[str, str]): Environment variables of the command.
        detail (Callable): Returns the text after the elapsed time.

    Raises:
        CommandError: the exit status is not 0.
    """
    terminal = sys.stdout.isatty()
    every = SECONDS_ON_A_TERMINAL if terminal else SECONDS_IN_A_FILE
    start = shown = time.monotonic()

    def show(end: str) -> None:
        line = f'{title}  {format_time(time.monotonic() - start)}  {detail()}'.rstrip()
        print(f'\r\033[K{line}' if terminal else line, end=end, flush=True)

    print(title, end='' if terminal else '\n', flush=True)
    with log.open('a') as output:
        output.write(f'\n$ {" ".join(command)}\n')
        output.flush()
        # in its own process group, so that an interruption also stops the compilers that pip started
        process = subprocess.Popen(
            list(command), stdout=output, stderr=subprocess.STDOUT, env=dict(env), start_new_session=True
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
        raise CommandError(
            f'{" ".join(command)}\nfailed with exit status {process.returncode}:\n\n{last_lines(log, 25)}'
        )
