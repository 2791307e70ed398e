"""Checks the Python, compiler, disk and memory of this machine before the set-up.

It uses only the standard library and Python 3.7's syntax, because it runs before anything is installed and must be
able to report that Python is too old.
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

# run by interpreters of any version
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
    """The properties that an interpreter reports about itself."""

    path: str
    version: tuple[int, int]
    has_venv: bool
    has_headers: bool
    header: str = 'Python.h'

    @property
    def supported(self) -> bool:
        """Return whether the pinned packages have builds for this version."""
        return OLDEST <= self.version <= NEWEST


@dataclass(frozen=True)
class Machine:
    """The properties of a machine on which the set-up depends."""

    python: Python
    compiler: str | None
    free_gb: float
    cores: int
    memory_gb: float


def format_version(version: tuple[int, ...]) -> str:
    """Format (3, 11) as 3.11."""
    return '.'.join(map(str, version))


def probe_python(path: str) -> Python | None:
    """Run an interpreter to get its properties; None if it does not exist or does not start."""
    try:
        answer = subprocess.run([path, '-c', PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60)
        major, minor, venv, headers, header = answer.stdout.decode().split(None, 4)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return Python(path, (int(major), int(minor)), venv == '1', headers == '1', header.strip())


def find_python(chosen: str | None = None) -> Python:
    """Return the chosen interpreter, or the first supported one: the running one, or one of those on the path.

    If none is supported, the running one is returned, and ``find_problems`` reports it.
    """
    if chosen:
        return probe_python(chosen) or Python(chosen, (0, 0), False, False)
    running = probe_python(sys.executable) or Python(sys.executable, sys.version_info[:2], False, False)
    candidates = [running]
    if not (running.supported and running.has_venv and running.has_headers):
        found = (probe_python(name) for name in ('python3.11', 'python3.12', 'python3.13', 'python3.10'))
        candidates += [python for python in found if python is not None]
    # of two supported ones, prefer the one with the headers that mmcv's build needs
    return max(candidates, key=lambda python: (python.supported, python.has_venv, python.has_headers))


def inspect_machine(python: Python, folder: Path) -> Machine:
    """Return the properties of this machine, and of the disk of ``folder``."""
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


def find_problems(machine: Machine, needed_gb: float, compiles: bool, makes_venv: bool) -> list[str]:
    """List everything that is missing, each with what was found and how to correct it.

    Args:
        machine (Machine): Properties of the machine.
        needed_gb (float): Disk space that the remaining steps need.
        compiles (bool): Whether mmcv's operators must still be compiled.
        makes_venv (bool): Whether the virtual environment must still be created.
    """
    python, found = machine.python, []
    wanted = f'Python {format_version(OLDEST)} to {format_version(NEWEST)}'
    if python.version == (0, 0):
        found.append(
            f'PYTHON={python.path} does not start. Give an interpreter of {wanted}: make setup PYTHON=python3.11'
        )
    elif not python.supported:
        age = 'old' if python.version < OLDEST else 'new: the pinned numpy and torch have no builds for it'
        found.append(
            f'{python.path} is Python {format_version(python.version)}, too {age}. {wanted} is needed.\n'
            f'Install one (Debian, Ubuntu: sudo apt-get install python3.11 python3.11-venv python3.11-dev; '
            f'or pyenv, uv, conda) and select it: make setup PYTHON=python3.11'
        )
    elif makes_venv and not python.has_venv:
        found.append(
            f'{python.path} (Python {format_version(python.version)}) has no modules venv and ensurepip.\n'
            f'Debian, Ubuntu: sudo apt-get install python{format_version(python.version)}-venv'
        )
    if compiles and machine.compiler is None:
        found.append(
            f'no C++ compiler: {os.environ.get("CXX", "g++")} is not on the path, but mmcv must be compiled.\n'
            'Debian, Ubuntu: sudo apt-get install g++     Fedora, RHEL: sudo dnf install gcc-c++'
        )
    if compiles and python.supported and not python.has_headers:
        found.append(
            f"Python's headers are missing: there is no {python.header}, which mmcv's compilation needs.\n"
            f'Debian, Ubuntu: sudo apt-get install python{format_version(python.version)}-dev     '
            f'Fedora, RHEL: sudo dnf install python3-devel'
        )
    if machine.free_gb < needed_gb:
        found.append(
            f'too little disk space: {machine.free_gb:.1f} GB are free for .venv, but {needed_gb:.1f} GB are needed.\n'
            'Free some, or move the checkout to a larger disk. pip cache info shows the size of the pip cache'
        )
    return found


def build_jobs(machine: Machine) -> int:
    """Return the number of parallel compilers: one per core, if there are 2 GB of memory for each."""
    return max(1, min(machine.cores, int(machine.memory_gb / 2)))
