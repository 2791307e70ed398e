"""What this machine has, and what of it keeps the set-up from working.

Standard library only, and Python 3.7's syntax: it runs before anything is installed, if only to say that Python is
too old.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 13)
GIGABYTE = 1e9

# run by every candidate interpreter, which may be of any version
PROBE = """
import os, sys, sysconfig
def has(name):
    try:
        __import__(name)
    except ImportError:
        return 0
    return 1
header = os.path.join(sysconfig.get_paths()['include'], 'Python.h')
print(sys.version_info[0], sys.version_info[1], has('venv') and has('ensurepip'), int(os.path.exists(header)), header)
"""


@dataclass(frozen=True)
class Python:
    """An interpreter, as it answers for itself."""

    path: str
    version: tuple[int, int]
    has_venv: bool
    has_headers: bool
    header: str = 'Python.h'

    @property
    def fits(self) -> bool:
        """Whether the pinned packages have builds for this version."""
        return OLDEST <= self.version <= NEWEST


@dataclass(frozen=True)
class Machine:
    """What the set-up needs to know of a machine."""

    python: Python
    compiler: str | None
    free_gb: float
    cores: int
    memory_gb: float


def dotted(version: tuple[int, ...]) -> str:
    """Write (3, 11) as 3.11."""
    return '.'.join(map(str, version))


def ask(path: str) -> Python | None:
    """Let an interpreter describe itself; None where there is none, or a shim that leads nowhere."""
    try:
        answer = subprocess.run([path, '-c', PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
        major, minor, venv, headers, header = answer.stdout.decode().split(None, 4)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return Python(path, (int(major), int(minor)), venv == '1', headers == '1', header.strip())


def find_python(chosen: str | None = None) -> Python:
    """Take the chosen interpreter, else the first that fits: this one, then python3.11 and its neighbours on the path.

    Where none fits the running one comes back, for ``problems`` to explain.
    """
    if chosen:
        return ask(chosen) or Python(chosen, (0, 0), False, False)
    here = ask(sys.executable) or Python(sys.executable, sys.version_info[:2], False, False)
    candidates = [here]
    if not (here.fits and here.has_venv and here.has_headers):
        found = (ask(name) for name in ('python3.11', 'python3.12', 'python3.13', 'python3.10'))
        candidates += [python for python in found if python is not None]
    # of two that fit, the one with the headers that mmcv's build needs
    return max(candidates, key=lambda python: (python.fits, python.has_venv, python.has_headers))


def look(python: Python, folder: Path) -> Machine:
    """Look at the machine that is to hold ``folder``."""
    memory = 8e9
    try:
        cores = len(os.sched_getaffinity(0))
        memory = float(os.sysconf('SC_PAGE_SIZE')) * os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, ValueError, OSError):  # not Linux
        cores = os.cpu_count() or 1
    return Machine(
        python=python,
        compiler=shutil.which(os.environ.get('CXX', 'g++')),
        free_gb=shutil.disk_usage(str(folder)).free / GIGABYTE,
        cores=cores,
        memory_gb=memory / GIGABYTE,
    )


def problems(machine: Machine, needed_gb: float, compiles: bool, makes_venv: bool) -> list[str]:
    """Say for everything that is missing what was found and what to do about it.

    Args:
        machine (Machine): What was found.
        needed_gb (float): Disk space that the steps still to be done need.
        compiles (bool): Whether mmcv's operators are still to be compiled.
        makes_venv (bool): Whether the virtual environment is still to be made.
    """
    python, found = machine.python, []
    wanted = f'Python {dotted(OLDEST)} to {dotted(NEWEST)}'
    if python.version == (0, 0):
        found.append(
            f'PYTHON={python.path} does not start. Name an interpreter of {wanted}: make setup PYTHON=python3.11'
        )
    elif not python.fits:
        age = 'old' if python.version < OLDEST else 'new: the pinned numpy and torch have no builds for it'
        found.append(
            f'{python.path} is Python {dotted(python.version)}, too {age}. Needed is {wanted}.\n'
            f'Install one (Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv python3.11-dev; '
            f'or pyenv, uv, conda) and name it: make setup PYTHON=python3.11'
        )
    elif makes_venv and not python.has_venv:
        found.append(
            f'{python.path} (Python {dotted(python.version)}) has no modules venv and ensurepip.\n'
            f'Debian, Ubuntu: sudo apt-get install python{dotted(python.version)}-venv'
        )
    if compiles and machine.compiler is None:
        found.append(
            f"no C++ compiler: {os.environ.get('CXX', 'g++')} is not on the path, and mmcv's operators are compiled.\n"
            'Debian, Ubuntu: sudo apt-get install g++     Fedora, RHEL: sudo dnf install gcc-c++'
        )
    if compiles and python.fits and not python.has_headers:
        found.append(
            f"Python's headers are missing: there is no {python.header}, and mmcv is compiled against it.\n"
            f'Debian, Ubuntu: sudo apt-get install python{dotted(python.version)}-dev     '
            f'Fedora, RHEL: sudo dnf install python3-devel'
        )
    if machine.free_gb < needed_gb:
        found.append(
            f'too little disk space: {machine.free_gb:.1f} GB are free where .venv goes, needed are {needed_gb:.1f}.\n'
            'Free some, or move the checkout to a larger disk. What pip keeps for next time: pip cache info'
        )
    return found


def build_jobs(machine: Machine) -> int:
    """Compilers to run side by side: one a core, while there are 2 GB of memory for each."""
    return max(1, min(machine.cores, int(machine.memory_gb / 2)))
