"""The steps of the set-up, in order. Each can be done again: what is there in the right version stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import mmcv_operators
from environment import CONSTRAINTS, Environment, silently
from progress import CommandError


@dataclass(frozen=True)
class Step:
    """One part of the set-up.

    Args:
        name (str): Name of its stamp.
        title (str): What a person reads.
        minutes (float): How long it takes on two cores.
        disk_gb (float): What it adds to the disk.
        work (Callable): Does it.
        leaves (str): Pattern of what it writes last to site-packages; where that is there, no disk space is asked for.
        depends (tuple[str]): Files of the checkout that it has to be done again for.
        compiles (bool): Whether it needs a compiler, and depends on the graphics card and its compiler too.
    """

    name: str
    title: str
    minutes: float
    disk_gb: float
    work: Callable[[Environment], None]
    leaves: str
    depends: tuple[str, ...] = (CONSTRAINTS,)
    compiles: bool = False


def make_tools(environment: Environment) -> None:
    """The environment itself, and what builds packages in it."""
    environment.make()
    environment.install(*environment.pinned('pip', 'setuptools', 'wheel', 'packaging', 'ninja', 'psutil'))


def install_torch(environment: Environment) -> None:
    """PyTorch, before anything that is compiled against it."""
    environment.install(*environment.pinned('torch', 'torchvision', 'numpy'))


def install_mmcv(environment: Environment) -> None:
    """mmcv with operators that run: what is installed, if it works; else what pip has in its cache; else built anew."""
    plan = mmcv_operators.plan_build(mmcv_operators.find_gpus(), mmcv_operators.probe(environment.python))
    print(plan.note, flush=True)
    # which torch it was built for, known only where it was built here
    marker = environment.notes / 'mmcv-was-built-for'
    pip = (str(environment.python), '-m', 'pip')
    for from_cache in (True, False):
        state = mmcv_operators.probe(environment.python)
        fits_torch = not marker.is_file() or marker.read_text() == state.torch
        if state.meets(plan) and fits_torch:
            return
        # a wheel built for another torch, or without CUDA, stands in pip's cache under the same name
        if state.cpu_nms is True or not from_cache:
            silently(*pip, 'cache', 'remove', 'onedl_mmcv')
        silently(*pip, 'uninstall', '--yes', 'onedl-mmcv')
        environment.install(
            '--no-build-isolation',  # in isolation it finds no torch, and builds no operators without a word
            *environment.pinned('onedl-mmcv'),
            detail=lambda: mmcv_operators.compiled(environment.temporary),
            MMCV_WITH_OPS='1',
            MAX_JOBS=str(environment.jobs),
            CFLAGS='-g0',  # with debug symbols every file takes twice as long
            **plan.env,
        )
        marker.write_text(state.torch)
    state = mmcv_operators.probe(environment.python)
    if not state.meets(plan):
        found = state.cuda_nms if state.cpu_nms is True else state.cpu_nms
        raise CommandError(f'mmcv was built, but its operators do not run: {found}')


def install_rest(environment: Environment) -> None:
    """The hosts, the tools, and this package as a link to the checkout."""
    environment.install('--no-build-isolation', '-e', f'{environment.root}[onedl,cls,export,demo,lab,dev]')


def check(environment: Environment) -> None:
    """Everything is imported once."""
    if not silently(str(environment.python), '-c', 'import cv2'):
        # opencv-python wants the system's libGL; the headless build fills the same folder and does without
        headless = environment.pinned('opencv-python-headless')
        environment.install('--force-reinstall', '--no-deps', *headless)
    hosts = 'import mmcv.ops, mmdet.models, mmseg.models, mmpretrain.models, protuning_mm'
    environment.run(str(environment.python), '-c', hosts)


PROJECT = (CONSTRAINTS, 'pyproject.toml')
STEPS = (
    Step('tools', 'environment and build tools', 0.3, 0.2, make_tools, 'ninja-*.dist-info'),
    Step('torch', 'torch and torchvision (3 GB to download)', 2, 5.5, install_torch, 'torch-*.dist-info'),
    Step('mmcv', 'mmcv and its compiled operators', 10, 0.8, install_mmcv, 'mmcv/_ext*', compiles=True),
    Step('rest', 'the host libraries, timm, this package', 1, 1.5, install_rest, 'onedl_mmdet*-info', PROJECT),
    Step('check', 'import everything once', 0.3, 0, check, 'protuning_mm-*.dist-info', PROJECT),
)
