"""Creates .venv and installs all packages in it; ``make setup`` runs this script.

Each finished step writes a stamp with a hash of its inputs. A second run finds the stamps and does nothing. A run after
an interruption continues with the first unfinished step.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import signal
import sys
import time
from pathlib import Path

import machine
import mmcv_operators
from environment import Environment
from progress import CommandError, format_time
from steps import STEPS, Step

ROOT = Path(__file__).resolve().parents[2]


def hash_inputs(environment: Environment, step: Step) -> str:
    """Hash the inputs of a step, including the path of the checkout, because an environment cannot be moved."""
    parts = [step.name, str(environment.root)] + [(environment.root / name).read_text() for name in step.depends]
    if step.compiles:
        parts.append(repr(mmcv_operators.find_gpus()))
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def is_done(environment: Environment, step: Step) -> bool:
    """Return whether a step is finished and its inputs have not changed since."""
    stamp = environment.setup_folder / step.name
    return environment.python.exists() and stamp.is_file() and stamp.read_text() == hash_inputs(environment, step)


def remaining_steps(environment: Environment) -> list[Step]:
    """Return the first step that is not done, and all steps after it."""
    for index, step in enumerate(STEPS):
        if not is_done(environment, step):
            return list(STEPS[index:])
    return []


def print_plan(environment: Environment, found: machine.Machine, steps: list[Step], missing: list[Step]) -> None:
    """Print the steps, the time and the disk space that they need."""
    print(
        f'Setting up {environment.folder} with Python {machine.format_version(found.python.version)} '
        f'({found.python.path}):'
    )
    for step in steps:
        print(f'  - {step.title}{"" if step in missing else " (installed; only checked)"}')
    print(f'About {max(1, round(sum(step.minutes for step in missing)))} min on two cores', end='')
    cached = ", of which ten compile mmcv's operators (one if pip's cache has them)."
    print(cached if any(step.compiles for step in missing) else '.')
    print(f'Disk: {sum(step.disk_gb for step in missing):.1f} GB of {found.free_gb:.0f} free. Log: {environment.log}')
    print('You can stop it at any time: the next run continues with the step that was reached.\n', flush=True)


def suggest_remedy(output: str) -> str:
    """Suggest a remedy for a failed command from its output."""
    if re.search(r'No space left', output):
        return 'The disk is full: free some space and run the same command again.'
    if re.search(r'Temporary failure in name|ConnectionError|Max retries|timed out|No matching distribution', output):
        return (
            'No package index can be reached: check the network, HTTPS_PROXY and pip config list, then run the same '
            'command again.'
        )
    if re.search(r'Killed|[Cc]annot allocate memory', output):
        return 'A compiler ran out of memory: close other programs and run the same command again.'
    return 'Run the same command again: finished steps are kept. To start again from nothing: make clean-venv.'


def set_up(environment: Environment) -> int:
    """Run the remaining steps; return 0 on success, 1 if something is missing or fails."""
    steps = remaining_steps(environment)
    if not steps:
        print(f'{environment.folder} is up to date.')
        return 0
    missing = [step for step in steps if not environment.has_installed(step.last_file)]
    found = machine.inspect_machine(environment.find_interpreter(), environment.root)
    environment.jobs = machine.build_jobs(found)
    problems = machine.find_problems(
        found,
        needed_gb=sum(step.disk_gb for step in missing),
        compiles=any(step.compiles for step in missing),
        makes_venv=not environment.works(),
    )
    if problems:
        print('The set-up cannot start:\n\n' + '\n\n'.join(problems))
        return 1
    print_plan(environment, found, steps, missing)
    start = time.monotonic()
    for step in steps:
        environment.title = f'[{STEPS.index(step) + 1}/{len(STEPS)}] {step.title}'
        try:
            step.work(environment)
        except CommandError as error:
            print(
                f'\n{environment.title}: failed.\n\n{error}\n\n{suggest_remedy(str(error))}\n'
                f'Full log: {environment.log}'
            )
            return 1
        (environment.setup_folder / step.name).write_text(hash_inputs(environment, step))
    print(f'\nReady after {format_time(time.monotonic() - start)} min. Next: make demo, make test.')
    return 0


def raise_interrupt(*_: object) -> None:
    """Handle SIGTERM and SIGHUP like Ctrl-C, so that pip and its compilers are stopped, too."""
    raise KeyboardInterrupt


def main() -> int:
    """Set up this checkout, one process at a time."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, raise_interrupt)
    try:
        with (ROOT / '.venv.lock').open('w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print('Waiting for another set-up of this checkout to finish.', flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            return set_up(Environment(ROOT, os.environ.get('PYTHON')))
    except KeyboardInterrupt:
        print('\nStopped. Run the same command again to continue with this step.')
        return 130


if __name__ == '__main__':
    sys.exit(main())
