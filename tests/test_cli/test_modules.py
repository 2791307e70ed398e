"""``python -m protuning_mm.cli.…``: a module with a command runs it, or names the right command."""

import ast
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.mini import REPO

ROOTS = (REPO / 'protuning_mm/cli', REPO / 'protuning_lab')


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


COMMANDS = [
    '.'.join(path.relative_to(REPO).with_suffix('').parts)
    for root in ROOTS
    for path in sorted(root.rglob('*.py'))
    if 'main' in functions(path) and path.stem != 'main'  # tested in test_main.py
]
PACKAGES = ['protuning_lab.study']


@pytest.mark.parametrize('module', [*COMMANDS, *PACKAGES])
def test_runs_its_command(module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With --help it prints a usage; a module that runs nothing would print nothing."""
    monkeypatch.setattr(sys, 'argv', ['command', '--help'])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        warnings.simplefilter('ignore', RuntimeWarning)  # runpy warns because the module is already imported
        runpy.run_module(module, run_name='__main__')
    assert ended.value.code == 0
    assert 'usage: ' in capsys.readouterr().out


def test_module_with_two_commands_names_them() -> None:
    with pytest.raises(SystemExit, match=r'extract_delta.py.*merge_delta.py'), warnings.catch_warnings():
        warnings.simplefilter('ignore', RuntimeWarning)
        runpy.run_module('protuning_mm.cli.convert_delta', run_name='__main__')


def test_functions_of_commands_are_named_main() -> None:
    """Otherwise the first test would miss them."""
    paths = (path for root in ROOTS for path in root.rglob('*.py'))
    others = {path.stem for path in paths if any(name.startswith('main_') for name in functions(path))}
    assert others == {'convert_delta'}


def test_missing_config() -> None:
    command = [sys.executable, '-m', 'protuning_mm.cli.train', 'nope.py']
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "error: there is no config 'nope.py'" in done.stderr, done.stderr
    assert 'Traceback' not in done.stderr
