"""The wheel, from the checkout to a user's folder: what is in it, and whether what is in it is found."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from mmengine.hub import get_config
from mmengine.utils import get_installed_path

import protuning_mm

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = (
    *('LICENSE', 'README.md', 'configs', 'model-index.yml', 'protuning_lab', 'protuning_mm', 'pyproject.toml'),
    *('setup.py', 'tools'),
)
# what only a checkout can run
CHECKOUT_ONLY = {'tools/make_demo_data.py', 'tools/train_source.py'}

USE_FROM_ANOTHER_FOLDER = """
import sys
from mmengine import Config
from mmengine.hub import get_config
import protuning_mm
assert protuning_mm.__file__.startswith(sys.prefix), protuning_mm.__file__
for fetched in (Config.fromfile('mine.py'), get_config('protuning_mm::det/htc_r50_protune.py')):
    assert fetched.model.backbone.type == 'protuning_mm.ProTunedResNet', fetched.model.backbone
assert Config.fromfile('mine.py').model.roi_head.semantic_head.num_classes == 7
from protuning_mm.engine.build_model import build_model
pets = build_model(Config.fromfile('pets.py'))
assert type(pets).__module__.startswith('mmpretrain.') and pets.head.num_classes == 37
assert [tuning.name for tuning in pets.backbone.tunings] == ['side']
from mmdet.registry import MODELS
print(type(MODELS.build(dict(type='protuning_mm.ProTunedResNet', depth=18))).__name__)
"""


def run(command: Sequence[object], folder: Path) -> str:
    """Run a command in a folder, without this process's module paths and without the network."""
    env = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    env.update(PIP_NO_INDEX='1', PIP_DISABLE_PIP_VERSION_CHECK='1')
    done = subprocess.run([str(word) for word in command], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shipped() -> set[str]:
    """The configs, tools and index of the checkout that an installed package needs."""
    files = [*(ROOT / 'configs').rglob('*'), *(ROOT / 'tools').rglob('*'), ROOT / 'model-index.yml']
    names = {path.relative_to(ROOT).as_posix() for path in files if path.suffix in ('.py', '.sh', '.yml')}
    return {name for name in names - CHECKOUT_ONLY if not name.startswith('tools/dev/') and '_demo.py' not in name}


def mim_files(names: Sequence[str]) -> set[str]:
    return {name.partition('/.mim/')[2] for name in names if '/.mim/' in name}


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: building writes into the folder it builds from, and other tests read that."""
    copy = tmp_path_factory.mktemp('source')
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


@pytest.fixture(scope='module')
def wheel(source: Path) -> Path:
    run([sys.executable, '-m', 'pip', 'wheel', '.', '--no-deps', '--no-build-isolation', '-w', 'wheels'], source)
    return next((source / 'wheels').glob('*.whl'))


@pytest.fixture(scope='module')
def fresh_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel, and sees the host libraries but not the editable install of the checkout."""
    folder = tmp_path_factory.mktemp('fresh')
    run([sys.executable, '-m', 'venv', '--without-pip', folder], folder)
    python = folder / 'bin/python'
    packages = Path(run([python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], folder).strip())
    # a path that a .pth file adds does not have its own .pth files read, which is where editable installs live
    (packages / 'hosts.pth').write_text(sysconfig.get_path('purelib') + '\n')
    run([sys.executable, '-m', 'pip', '--python', python, 'install', '--no-deps', wheel], folder)
    return python


def test_wheel_ships_configs_and_tools(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert mim_files(names) == shipped()
    assert wheel.name.startswith(f'protuning_mm-{protuning_mm.__version__}-')
    data = {'protuning_mm/py.typed', 'protuning_mm/serving/page.html'}
    assert {*data, 'protuning_lab/study/page.css', 'protuning_lab/study/page.js'} <= set(names)
    # nothing else becomes importable
    assert {name.split('/')[0] for name in names if '.dist-info' not in name} == {'protuning_mm', 'protuning_lab'}


def test_sdist_ships_them_too(source: Path) -> None:
    run([sys.executable, '-c', 'from setuptools.build_meta import build_sdist; build_sdist("sdist")'], source)
    with tarfile.open(next((source / 'sdist').glob('*.tar.gz'))) as archive:
        files = [member.name for member in archive if member.isfile()]
    # the files themselves: a wheel that is built from here has nothing that a link could point at
    assert mim_files(files) == shipped()


def test_wheel_requires_neither_host_family(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith('METADATA'))).decode()
    required = [line for line in metadata.splitlines() if line.startswith('Requires-Dist') and 'extra ==' not in line]
    assert sorted(line.split()[1].split('>')[0] for line in required) == ['filelock', 'numpy', 'torch']


def test_installed_package_works_from_another_folder(fresh_python: Path, tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'protuning_mm::det/htc_r50_protune.py'\n"
        'model = dict(roi_head=dict(semantic_head=dict(num_classes=7)))\n'
    )
    (tmp_path / 'pets.py').write_text(
        "_base_ = ['protuning_mm::cls/r50_protune_pets.py', 'protuning_mm::_base_/tunings/side.py']\n"
        'model = dict(backbone=dict(tuning=_base_.tuning))\n'
    )
    assert run([fresh_python, '-c', USE_FROM_ANOTHER_FOLDER], tmp_path).split()[-1] == 'ProTunedResNet'


def test_installed_command_starts(fresh_python: Path, tmp_path: Path) -> None:
    assert 'delta extract' in run([fresh_python.with_name('protuning'), '--help'], tmp_path)


def test_installed_tools_start(fresh_python: Path, tmp_path: Path) -> None:
    tools = next(fresh_python.parents[1].glob('lib/python*/site-packages/protuning_mm/.mim/tools'))
    assert '--work-dir' in run([fresh_python, tools / 'train.py', '--help'], tmp_path)


def test_checkout_installed_for_editing_is_found() -> None:
    # under make test the package is an editable install; both of mmengine's ways to a config lead to the checkout
    assert Path(get_installed_path('protuning_mm')) == ROOT / 'protuning_mm'
    found = get_config('protuning_mm::seg/fcn_r50_protune.py')
    assert Path(found.filename).resolve() == ROOT / 'configs/seg/fcn_r50_protune.py'


def test_every_config_has_its_entry_in_a_metafile() -> None:
    metafiles = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    models = [model for path in metafiles for model in yaml.safe_load((ROOT / path).read_text())['Models']]
    leaves = {path for path in shipped() if path.startswith('configs/') and path.endswith('.py')}
    assert {model['Config'] for model in models} == {path for path in leaves if '/_base_/' not in path}
    assert all(Path(model['Config']).stem == model['Name'] for model in models)
