"""Checks that the installed packages work together."""

import importlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch
from packaging.version import Version

from protuning_mm.doctor.findings import Finding, Findings, describe_error
from protuning_mm.doctor.training_setup import TrainingSetup

# maintained distribution -> classic distribution with the same import name
CLASSIC_NAMES = {
    'onedl-mmcv': 'mmcv',
    'onedl-mmengine': 'mmengine',
    'onedl-mmdetection': 'mmdet',
    'onedl-mmsegmentation': 'mmsegmentation',
    'onedl-mmpretrain': 'mmpretrain',
}
_OTHERS = ('torch', 'torchvision', 'numpy', 'timm', 'mmcv-lite')
# over a wheel without operators, which pip's cache keeps under the same name
INSTALL_OPERATORS = (
    'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps onedl-mmcv==2.3.6'
)
_HOSTS = ('mmdet', 'mmseg', 'mmpretrain')


def check_versions(setup: TrainingSetup) -> Findings:
    """List the installed packages, find incompatible versions, and import the packages that the config needs."""
    installed = _installed()
    yield Finding('info', 'versions', ', '.join(f'{name} {v}' for name, v in installed.items()))
    yield from find_incompatible_versions(installed)
    yield from _imports(setup)


def find_incompatible_versions(installed: Mapping[str, str]) -> Findings:
    """Find combinations of packages that cannot work.

    Args:
        installed (Mapping): Distribution -> version.
    """
    found = {name: Version(v) for name, v in installed.items()}
    both = [f'{new} and {old}' for new, old in CLASSIC_NAMES.items() if new in found and old in found]
    classic = [old for old in CLASSIC_NAMES.values() if old in found]
    if both:
        wrong = f'two distributions of the same package are installed: {", ".join(both)}'
        advice = 'a new environment with onedl-* packages only (docs/install.md)'
        yield Finding('error', 'versions', wrong, advice)
    elif classic:
        wrong = (
            f'the classic {", ".join(classic)}: not supported; these need torch 2.1, which loads pickles that run code'
        )
        yield Finding('warning', 'versions', wrong, 'an environment with the onedl-* packages')
        if found.get('numpy', Version('0')) >= Version('2'):
            yield Finding(
                'error', 'numpy', f'numpy {found["numpy"]} breaks the classic packages', 'numpy<2, or onedl-*'
            )
    if 'torch' in found and found['torch'] < Version('2.6'):
        yield Finding('error', 'torch', f'{found["torch"]} is too old: 2.6 or later is needed', 'torch===2.13.0')
    too_new = 'torch' in found and found['torch'] >= Version('2.14')
    if too_new and found.get('onedl-mmcv', Version('3')) <= Version('2.3.6'):
        wrong = f"onedl-mmcv {found['onedl-mmcv']}'s operators do not build with torch {found['torch']} (C++20)"
        yield Finding('warning', 'torch', wrong, 'torch===2.13.0 torchvision==0.28.0')
    if 'mmdet' in found and found.get('mmcv', Version('0')) >= Version('2.2'):
        yield Finding('error', 'mmcv', f'mmdet {found["mmdet"]} refuses mmcv {found["mmcv"]}', 'mmcv<2.2, or onedl-*')


def _imports(setup: TrainingSetup) -> Findings:
    needed = setup.scope == 'mmdet'
    try:
        ops = importlib.import_module('mmcv.ops')
    except Exception as error:
        found = (
            f"mmcv's operators cannot be imported{', and mmdet needs them' if needed else ''}: {describe_error(error)}"
        )
        yield Finding('error' if needed else 'info', 'mmcv.ops', found, INSTALL_OPERATORS)
    else:
        if torch.cuda.is_available() and ops.get_compiling_cuda_version() == 'not available':
            found = "there is a GPU, but mmcv's operators were compiled for the CPU only"
            advice = 'FORCE_CUDA=1 MMCV_WITH_OPS=1 pip install --no-build-isolation --force-reinstall onedl-mmcv==2.3.6'
            yield Finding('error' if needed else 'warning', 'mmcv.ops', found, advice)
    for name in ('torchvision', *([setup.scope] if setup.scope in _HOSTS else [])):
        try:
            importlib.import_module(name)
        except Exception as error:
            found = f'cannot be imported: {describe_error(error)}'
            yield Finding('error', name, found, 'docs/install.md')


def _installed() -> dict[str, str]:
    found = {}
    for name in (*_OTHERS, *CLASSIC_NAMES, *CLASSIC_NAMES.values()):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
