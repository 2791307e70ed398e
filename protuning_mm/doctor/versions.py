"""Are the installed packages ones that work together?"""

import importlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch
from packaging.version import Version

from protuning_mm.doctor.case import Case
from protuning_mm.doctor.findings import Finding, Findings, first_line

# the maintained continuation and the classic distribution share their import names
FAMILIES = {
    'onedl-mmcv': 'mmcv',
    'onedl-mmengine': 'mmengine',
    'onedl-mmdetection': 'mmdet',
    'onedl-mmsegmentation': 'mmsegmentation',
    'onedl-mmpretrain': 'mmpretrain',
}
_OTHERS = ('torch', 'torchvision', 'numpy', 'timm', 'mmcv-lite')
_HOSTS = ('mmdet', 'mmseg', 'mmpretrain')


def check_versions(case: Case) -> Findings:
    """List what is installed, find what is known to break, and import what the config needs."""
    installed = _installed()
    yield Finding('info', 'versions', ', '.join(f'{name} {v}' for name, v in installed.items()))
    yield from known_to_break(installed)
    yield from _imports(case)


def known_to_break(installed: Mapping[str, str]) -> Findings:
    """Combinations that cannot work.

    Args:
        installed (Mapping): Distribution -> version.
    """
    both = [f'{new} and {old}' for new, old in FAMILIES.items() if new in installed and old in installed]
    if both:
        yield Finding(
            'error',
            'versions',
            f'both families are installed, one over the other: {", ".join(both)}',
            'a new environment with one family (README, "Install for GPU users")',
        )
    found = {name: Version(v) for name, v in installed.items()}
    classic = [old for old in FAMILIES.values() if old in found]
    if classic and not both:
        yield Finding(
            'warning',
            'versions',
            f'the classic {", ".join(classic)}: not supported, they stop at torch 2.1, which loads pickles with code',
            'an environment with the onedl-* packages',
        )
    if 'torch' in found and found['torch'] < Version('2.6'):
        yield Finding('error', 'torch', f'{found["torch"]} is too old: 2.6 is the first', 'torch===2.13.0')
    builds_not = 'torch' in found and found['torch'] >= Version('2.14')
    if builds_not and found.get('onedl-mmcv', Version('3')) <= Version('2.3.6'):
        yield Finding(
            'warning',
            'torch',
            f"onedl-mmcv {found['onedl-mmcv']}'s operators do not build with torch {found['torch']} (C++20)",
            'torch===2.13.0 torchvision==0.28.0',
        )
    if 'mmdet' in found and found.get('mmcv', Version('0')) >= Version('2.2'):
        yield Finding('error', 'mmcv', f'mmdet {found["mmdet"]} refuses mmcv {found["mmcv"]}', 'mmcv<2.2, or onedl-*')
    if classic and not both and found.get('numpy', Version('0')) >= Version('2'):
        yield Finding('error', 'numpy', f'numpy {found["numpy"]} breaks the classic packages', 'numpy<2, or onedl-*')


def _imports(case: Case) -> Findings:
    try:
        ops = importlib.import_module('mmcv.ops')
    except Exception as error:
        needed = case.scope == 'mmdet'
        yield Finding(
            'error' if needed else 'info',
            'mmcv.ops',
            f"mmcv's operators cannot be imported{', and mmdet needs them' if needed else ''}: {first_line(error)}",
            'MMCV_WITH_OPS=1 pip install --no-build-isolation onedl-mmcv==2.3.6',
        )
    else:
        if torch.cuda.is_available() and ops.get_compiling_cuda_version() == 'not available':
            yield Finding(
                'error' if case.scope == 'mmdet' else 'warning',
                'mmcv.ops',
                "there is a GPU, but mmcv's operators were compiled for CPUs alone",
                'FORCE_CUDA=1 MMCV_WITH_OPS=1 pip install --no-build-isolation --force-reinstall onedl-mmcv==2.3.6',
            )
    for name in ('torchvision', *([case.scope] if case.scope in _HOSTS else [])):
        try:
            importlib.import_module(name)
        except Exception as error:
            yield Finding('error', name, f'cannot be imported: {first_line(error)}', 'README, "Install for GPU users"')


def _installed() -> dict[str, str]:
    found = {}
    for name in (*_OTHERS, *FAMILIES, *FAMILIES.values()):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
