"""The virtual environment of a checkout, and pip with the pinned versions."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Callable

import machine
import progress

CONSTRAINTS = 'requirements/constraints-onedl.txt'


def succeeds(*command: str) -> bool:
    """Run a command without output, and return whether it succeeds."""
    return not subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


class Environment:
    """The .venv of a checkout.

    Args:
        root (Path): Path of the checkout.
        chosen (str, optional): Interpreter with which to create .venv. Defaults to the first supported one on the path.
    """

    def __init__(self, root: Path, chosen: str | None = None) -> None:
        self.root = root
        self.chosen = chosen
        self.folder = root / '.venv'
        self.python = self.folder / 'bin/python'
        # stamps, log and temporary files of the set-up
        self.setup_folder = self.folder / '.setup'
        self.log = self.setup_folder / 'log.txt'
        # pip unpacks and compiles here: on the disk whose free space was checked, and where compiled files are counted
        self.temporary = self.setup_folder / 'tmp'
        self.title = ''
        self.jobs = 1

    def works(self) -> bool:
        """Return whether the interpreter is supported and starts pip; it does not if .venv is incomplete or moved."""
        python = machine.probe_python(str(self.python))
        return python is not None and python.supported and succeeds(str(self.python), '-m', 'pip', '--version')

    def find_interpreter(self) -> machine.Python:
        """Return the interpreter in .venv if it works, otherwise the one that will create .venv."""
        existing = machine.probe_python(str(self.python)) if self.works() else None
        return existing or machine.find_python(self.chosen)

    def has_installed(self, pattern: str) -> bool:
        """Return whether site-packages has a file that matches a pattern."""
        return any(self.folder.glob(f'lib/python*/site-packages/{pattern}'))

    def create(self) -> None:
        """Create .venv, unless it exists and works."""
        works = self.works()
        if not works and self.folder.exists():
            print(f'{self.folder} is incomplete, was moved, or has an unsupported Python: it is created again.')
            shutil.rmtree(str(self.folder))
        self.setup_folder.mkdir(parents=True, exist_ok=True)
        if not works:
            self.run(machine.find_python(self.chosen).path, '-m', 'venv', str(self.folder))

    def run(self, *command: str, detail: Callable[[], str] = lambda: '', **env: str) -> None:
        """Run a command, and show the title of the current step as its progress."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        try:
            progress.run(self.title, command, self.log, {**os.environ, 'TMPDIR': str(self.temporary), **env}, detail)
        finally:
            shutil.rmtree(str(self.temporary), ignore_errors=True)

    def install(self, *requirements: str, detail: Callable[[], str] = lambda: '', **env: str) -> None:
        """Install requirements with pip, in the versions of the constraints file."""
        command = [
            '-m',
            'pip',
            'install',
            '--disable-pip-version-check',
            '-c',
            str(self.root / CONSTRAINTS),
            *requirements,
        ]
        self.run(str(self.python), *command, detail=detail, **env)

    def pinned(self, *names: str) -> list[str]:
        """Return the lines of the constraints file that pin some packages, such as ``torch===2.13.0``."""
        lines = (self.root / CONSTRAINTS).read_text().splitlines()
        return [next(line for line in lines if re.match(rf'{re.escape(name)}=', line)) for name in names]
