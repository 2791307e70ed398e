"""Makes .venv and installs everything in it: what ``make setup`` runs.

Every step leaves a stamp when it is done, with a hash of all that it depends on. A second run finds the stamps and does
nothing; a run after an interruption goes on where the first was stopped.
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
from progress import CommandError, clock
from steps import STEPS, Step

ROOT = Path(__file__).resolve().parents[2]


def key(environment: Environment, step: Step) -> str:
    """Hash what a step depends on. The checkout's place belongs to it: an environment cannot be moved."""
    parts = [step.name, str(environment.root)] + [(environment.root / name).read_text() for name in step.depends]
    if step.compiles:
        parts.append(repr(mmcv_operators.find_gpus()))
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()


def is_done(environment: Environment, step: Step) -> bool:
    """Whether a step's stamp is there and nothing has changed since."""
    stamp = environment.notes / step.name
    return environment.python.exists() and stamp.is_file() and stamp.read_text() == key(environment, step)


def steps_to_do(environment: Environment) -> list[Step]:
    """The first step that is not done, and all that come after it."""
    for index, step in enumerate(STEPS):
        if not is_done(environment, step):
            return list(STEPS[index:])
    return []


def announce(environment: Environment, found: machine.Machine, steps: list[Step], missing: list[Step]) -> None:
    """Say what is about to happen, and how much of it is missing."""
    print(f'Setting up {environment.folder} with Python {machine.dotted(found.python.version)} ({found.python.path}):')
    for step in steps:
        print(f'  - {step.title}{"" if step in missing else " (there already: only checked)"}')
    print(f'About {max(1, round(sum(step.minutes for step in missing)))} min on two cores', end='')
    cached = ", ten of them mmcv's operators; one where pip has them in its cache."
    print(cached if any(step.compiles for step in missing) else '.')
    print(f'Disk: {sum(step.disk_gb for step in missing):.1f} GB of {found.free_gb:.0f} free. Log: {environment.log}')
    print('It can be stopped at any time: the next run goes on at the step that was reached.\n', flush=True)


def remedy(words: str) -> str:
    """Say what helps against failures that come from outside."""
    if re.search(r'No space left', words):
        return 'The disk is full: free some space and run the same command again.'
    if re.search(r'Temporary failure in name|ConnectionError|Max retries|timed out|No matching distribution', words):
        return 'No package index answers: check the network, HTTPS_PROXY and pip config list; then run the same again.'
    if re.search(r'Killed|[Cc]annot allocate memory', words):
        return 'A compiler ran out of memory: close other programs and run the same command again.'
    return 'Run the same command again: finished steps are kept. To start from nothing: make clean-venv.'


def set_up(environment: Environment) -> int:
    """Do what is not done yet; 0 when all is, 1 when something is missing or fails."""
    steps = steps_to_do(environment)
    if not steps:
        print(f'{environment.folder} is up to date.')
        return 0
    missing = [step for step in steps if not environment.holds(step.leaves)]
    found = machine.look(environment.interpreter(), environment.root)
    environment.jobs = machine.build_jobs(found)
    faults = machine.problems(
        found,
        needed_gb=sum(step.disk_gb for step in missing),
        compiles=any(step.compiles for step in missing),
        makes_venv=not environment.works(),
    )
    if faults:
        print('The set-up cannot start:\n\n' + '\n\n'.join(faults))
        return 1
    announce(environment, found, steps, missing)
    start = time.monotonic()
    for step in steps:
        environment.title = f'[{STEPS.index(step) + 1}/{len(STEPS)}] {step.title}'
        try:
            step.work(environment)
        except CommandError as error:
            print(
                f'\n{environment.title}: failed.\n\n{error}\n\n{remedy(str(error))}\nThe whole log: {environment.log}'
            )
            return 1
        (environment.notes / step.name).write_text(key(environment, step))
    print(f'\nReady after {clock(time.monotonic() - start)} min. Next: make demo, make test.')
    return 0


def interrupt(*_: object) -> None:
    """Treat being ended like Ctrl-C, so that pip and its compilers end too."""
    raise KeyboardInterrupt


def main() -> int:
    """Set up this checkout, one process at a time."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupt)
    try:
        with (ROOT / '.venv.lock').open('w') as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                print('Another set-up is at work in this checkout: waiting for it.', flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            return set_up(Environment(ROOT, os.environ.get('PYTHON')))
    except KeyboardInterrupt:
        print('\nStopped. Run the same command again: it goes on at this step.')
        return 130


if __name__ == '__main__':
    sys.exit(main())
