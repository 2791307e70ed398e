"""Imports run one way, no room is too large, and no host is imported where it is not used."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE, LAB = ROOT / 'protuning_mm', ROOT / 'protuning_lab'
HOSTS = {'mmdet', 'mmseg', 'mmpretrain', 'timm'}
# what each room may import from the package; its own is allowed
ROOMS = {
    'frozen': set(),
    'blocks': {'frozen'},
    'stages': set(),
    'weights': set(),
    'tunings': {'blocks', 'stages'},
    'backbones': {'frozen', 'stages', 'tunings', 'weights'},
    'data': set(),
    'conversion': {'data'},
    'engine': {'backbones', 'data', 'frozen', 'weights'},
    'multitask': {'backbones', 'data', 'engine', 'frozen', 'stages', 'weights'},
    'serving': {'data', 'engine', 'multitask', 'weights'},
    'patches': {'backbones', 'data', 'engine', 'weights'},
    'doctor': {'backbones', 'data', 'engine', 'patches', 'weights'},
    'cli': {
        'backbones',
        'conversion',
        'data',
        'doctor',
        'engine',
        'frozen',
        'multitask',
        'patches',
        'serving',
        'stages',
        'tunings',
        'weights',
    },
}
# subclasses of one host's data sets; only the registry imports them, when one of their scoped names is looked up
FOR_ONE_HOST = {'data/classification': 'mmpretrain'}


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


def test_every_room_is_listed() -> None:
    assert {path.parent.name for path in PACKAGE.glob('*/__init__.py')} == set(ROOMS)


def test_the_package_knows_nothing_of_the_lab() -> None:
    for path in PACKAGE.rglob('*.py'):
        if '.mim' not in path.parts:
            assert not any(name.startswith('protuning_lab') for name in imported(path, everywhere=True)), path


def test_no_room_holds_more_than_a_third() -> None:
    lines = {room: sum(len(path.read_text().splitlines()) for path in sources(room)) for room in ROOMS}
    assert max(lines.values()) <= sum(lines.values()) / 3, lines


def test_no_module_imports_itself_by_a_detour() -> None:
    """At import time, file by file."""
    files = [path for root in (PACKAGE, LAB) for path in root.rglob('*.py') if '.mim' not in path.parts]
    modules = {_name(path): path for path in files}
    needs = {
        name: {found for each in imported(path) if (found := _module_of(each, modules)) not in (None, name)}
        for name, path in modules.items()
    }
    # a package's own __init__ is imported with each of its modules, and may name them
    needs = {name: {other for other in found if not name.startswith(f'{other}.')} for name, found in needs.items()}
    while ready := [name for name, found in needs.items() if not found & needs.keys()]:
        for name in ready:
            del needs[name]
    assert not needs


def _name(path: Path) -> str:
    return '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')


def _module_of(name: str, modules: dict[str, Path]) -> str | None:
    while name and name not in modules:
        name = name.rpartition('.')[0]
    return name or None


@pytest.mark.parametrize('room', ['frozen', 'blocks'])
def test_imported_alone(room: str) -> None:
    """In an interpreter that has torch and neither mmengine nor mmcv nor any host."""
    blocked = ['mmengine', 'mmcv', *sorted(HOSTS)]
    code = (
        f'import sys\nfor name in {blocked!r}: sys.modules[name] = None\n'
        f'import protuning_mm.{room}\n'
        "print(sorted(name for name in sys.modules if name.startswith('protuning_mm.')))"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"'protuning_mm.{room}'" in done.stdout and 'protuning_mm.engine' not in done.stdout


def test_only_patches_replaces_attributes_of_other_libraries() -> None:
    """No other file assigns to an attribute of something that it imported from another library."""
    foreign = {'mmengine', 'mmcv', 'torch', *HOSTS}
    found = set()
    for path in PACKAGE.rglob('*.py'):
        if '.mim' in path.parts:
            continue
        tree = ast.parse(path.read_text())
        names = {
            (alias.asname or alias.name).split('.')[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if (getattr(node, 'module', None) or alias.name).split('.')[0] in foreign
        }
        targets: list[ast.AST] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                targets += [each for target in node.targets for each in getattr(target, 'elts', [target])]
            elif isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'setattr':
                targets.append(ast.Attribute(node.args[0], ''))
        for target in targets:
            root = target
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(target, ast.Attribute) and isinstance(root, ast.Name) and root.id in names:
                found.add(path.relative_to(PACKAGE).as_posix())
        if 'register_module_module_registration_hook' in names:
            found.add(path.relative_to(PACKAGE).as_posix())
    assert found == {f'patches/{each}.py' for each in ('at_import', 'in_process')}


def test_imports_say_nothing_of_optional_packages() -> None:
    code = 'import protuning_mm, mmpretrain.datasets, mmseg.datasets, mmdet.datasets, mmdet.evaluation'

    def said(skipped: str) -> str:
        env = {**os.environ, 'PROTUNING_MM_SKIP_PATCHES': skipped}
        done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    words = ('Could not import OneDL', 'faster_coco_eval is not installed')
    assert all(word in said('patch_import_notes') for word in words)
    assert not any(word in said('') for word in words)


def test_a_patch_can_be_skipped() -> None:
    code = (
        'from mmengine.config import Config\nplain = Config._get_cfg_path\nimport protuning_mm\n'
        'print(Config._get_cfg_path is plain)'
    )

    def run(skipped: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, 'PROTUNING_MM_SKIP_PATCHES': skipped}
        return subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True, check=False)

    assert run('patch_config_bases').stdout.strip() == 'True'
    assert run('').stdout.strip() == 'False'
    assert "there is no 'patch_configs' in protuning_mm.patches" in run('patch_configs').stderr


def test_a_patch_of_prepare_process_can_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmengine.dataset import BaseDataset

    from protuning_mm.patches import prepare_process

    plain = BaseDataset._serialize_data
    monkeypatch.setenv('PROTUNING_MM_SKIP_PATCHES', 'patch_empty_data_sets')
    prepare_process('')
    assert BaseDataset._serialize_data is plain
    monkeypatch.delenv('PROTUNING_MM_SKIP_PATCHES')
    prepare_process('')
    patched = BaseDataset._serialize_data
    assert patched is not plain
    prepare_process('')
    assert BaseDataset._serialize_data is patched  # once


def test_importing_the_package_imports_no_host() -> None:
    """In a fresh interpreter, engine and all."""
    code = (
        'import sys, protuning_mm, protuning_mm.engine, protuning_mm.weights\n'
        'import protuning_mm.data, protuning_mm.data.corruptions, protuning_mm.data.metrics\n'
        f'print(sorted(set(sys.modules) & {HOSTS!r}))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr
