"""Imports run one way: blocks and frozen know torch alone, and no host is imported where it is not used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'protuning_mm'
HOSTS = {'mmdet', 'mmseg', 'mmpretrain', 'timm'}
# what each room may import from the package; its own is allowed
ROOMS = {
    'frozen': set(),
    'blocks': {'frozen'},
    'checkpoints': set(),
    'tunings': {'blocks'},
    'backbones': {'checkpoints', 'frozen', 'tunings'},
    'engine': {'backbones', 'checkpoints', 'frozen'},
    'datasets': set(),
    'evaluation': set(),
    'apis': {'backbones', 'checkpoints', 'datasets', 'engine', 'frozen', 'tunings'},
}
# subclasses of one host's data sets; only the registry imports them, when one of their scoped names is looked up
FOR_ONE_HOST = {'datasets/classification': 'mmpretrain'}


def imported(path: Path, everywhere: bool = False) -> set[str]:
    """Full names that a file imports when it is imported itself; ``everywhere``: in its functions too."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else _at_import(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'{path}: relative import'
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
    return names


def _at_import(node: ast.AST) -> list[ast.AST]:
    found = []
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found += [child, *_at_import(child)]
    return found


def sources(room: str) -> list[Path]:
    found = sorted((PACKAGE / room).rglob('*.py'))
    assert found, f'{room} has no sources'
    return found


@pytest.mark.parametrize('room', ['frozen', 'blocks'])
def test_torch_only(room: str) -> None:
    allowed = set(sys.stdlib_module_names) | {'torch', 'protuning_mm'}
    for path in sources(room):
        for name in imported(path, everywhere=True):
            assert name.split('.')[0] in allowed, f'{path.name}: {name}'


@pytest.mark.parametrize('room', list(ROOMS))
def test_no_host_at_module_level(room: str) -> None:
    """Someone with mmdet alone uses the package with mmdet alone."""
    for path in sources(room):
        allowed = {FOR_ONE_HOST.get(path.parent.relative_to(PACKAGE).as_posix())}
        assert {name.split('.')[0] for name in imported(path)} & HOSTS <= allowed, path.name


@pytest.mark.parametrize('room', list(ROOMS))
def test_rooms_import_one_way(room: str) -> None:
    for path in sources(room):
        for name in imported(path, everywhere=True):
            parts = name.split('.')
            if parts[0] == 'protuning_mm' and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                assert parts[1] in ROOMS[room] | {room}, f'{room}/{path.name} imports {name}'


def test_importing_the_package_imports_no_host() -> None:
    """In a fresh interpreter, engine and all."""
    code = (
        'import sys, protuning_mm, protuning_mm.engine, protuning_mm.checkpoints\n'
        'import protuning_mm.datasets, protuning_mm.datasets.corrupt, protuning_mm.evaluation\n'
        f'print(sorted(set(sys.modules) & {HOSTS!r}))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr
