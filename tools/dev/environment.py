"""The virtual environment of a checkout, and pip with the pinned versions in it."""

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


def silently(*command: str) -> bool:
    """Whether a command ends well."""
    return not subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


class Environment:
    """The .venv of one checkout.

    Args:
        root (Path): The checkout.
        chosen (str, optional): Interpreter to make .venv with. Defaults to the first on the path that fits.
    """

    def __init__(self, root: Path, chosen: str | None = None) -> None:
        self.root = root
        self.chosen = chosen
        self.folder = root / '.venv'
        self.python = self.folder / 'bin/python'
        # what the set-up writes for itself
        self.notes = self.folder / '.setup'
        self.log = self.notes / 'log.txt'
        # pip unpacks and compiles here: on the disk that was checked, where the compiled files can be counted
        self.temporary = self.notes / 'tmp'
        self.title = ''
        self.jobs = 1

    def works(self) -> bool:
        """Whether its interpreter fits and starts pip: not so where it is half-made, or was moved."""
        python = machine.ask(str(self.python))
        return python is not None and python.fits and silently(str(self.python), '-m', 'pip', '--version')

    def interpreter(self) -> machine.Python:
        """Its interpreter where that works, else the one that will make it."""
        existing = machine.ask(str(self.python)) if self.works() else None
        return existing or machine.find_python(self.chosen)

    def holds(self, pattern: str) -> bool:
        """Whether something in site-packages is called like this."""
        return any(self.folder.glob(f'lib/python*/site-packages/{pattern}'))

    def make(self) -> None:
        """Make the environment, unless there is one that works."""
        works = self.works()
        if not works and self.folder.exists():
            print(f'{self.folder} is half-made, moved, or of a Python that does not fit: it is made anew.')
            shutil.rmtree(str(self.folder))
        self.notes.mkdir(parents=True, exist_ok=True)
        if not works:
            self.run(machine.find_python(self.chosen).path, '-m', 'venv', str(self.folder))

    def run(self, *command: str, detail: Callable[[], str] = lambda: '', **env: str) -> None:
        """Run a command under the title of the step."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        try:
            progress.run(self.title, command, self.log, {**os.environ, 'TMPDIR': str(self.temporary), **env}, detail)
        finally:
            shutil.rmtree(str(self.temporary), ignore_errors=True)

    def install(self, *what: str, detail: Callable[[], str] = lambda: '', **env: str) -> None:
        """Let pip install within the constraints."""
        command = ['-m', 'pip', 'install', '--disable-pip-version-check', '-c', str(self.root / CONSTRAINTS), *what]
        self.run(str(self.python), *command, detail=detail, **env)

    def pinned(self, *names: str) -> list[str]:
        """Look up requirements in the constraints file, with their version."""
        lines = (self.root / CONSTRAINTS).read_text().splitlines()
        return [next(line for line in lines if re.match(rf'{re.escape(name)}=', line)) for name in names]
