"""The steps of the set-up, in order. A step can be repeated: packages of the right version are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import mmcv_operators
from environment import CONSTRAINTS, Environment, succeeds
from progress import CommandError


@dataclass(frozen=True)
class Step:
    """A step of the set-up.

    Args:
        name (str): Name of the stamp.
        title (str): Text to print.
        minutes (float): Time on two cores.
        disk_gb (float): Disk space in GB.
        work (Callable): The function that runs the step.
        last_file (str): Pattern of the file in site-packages that the step writes last. If it exists, the step needs no
            more disk space.
        depends (tuple[str]): Files of the checkout; if one changes, the step is repeated.
        compiles (bool): Whether the step needs a compiler, and depends on the GPU and the CUDA toolkit. Defaults to
            False.
    """

    name: str
    title: str
    minutes: float
    disk_gb: float
    work: Callable[[Environment], None]
    last_file: str
    depends: tuple[str, ...] = (CONSTRAINTS,)
    compiles: bool = False


def make_tools(environment: Environment) -> None:
    """Create the environment, and install the tools that build packages."""
    environment.create()
    environment.install(*environment.pinned('pip', 'setuptools', 'wheel', 'packaging', 'ninja', 'psutil'))


def install_torch(environment: Environment) -> None:
    """Install PyTorch, before the packages that are compiled against it."""
    environment.install(*environment.pinned('torch', 'torchvision', 'numpy'))


def install_mmcv(environment: Environment) -> None:
    """Install mmcv with working operators: keep the installed one, or take one from pip's cache, or build it."""
    plan = mmcv_operators.plan_build(mmcv_operators.find_gpus(), mmcv_operators.probe_operators(environment.python))
    print(plan.note, flush=True)
    # the torch version for which mmcv was built; missing if it was not built here
    marker = environment.setup_folder / 'mmcv-was-built-for'
    pip = (str(environment.python), '-m', 'pip')
    for from_cache in (True, False):
        state = mmcv_operators.probe_operators(environment.python)
        fits_torch = not marker.is_file() or marker.read_text() == state.torch
        if state.meets(plan) and fits_torch:
            return
        # pip's cache stores wheels for another torch, or without CUDA, under the same name
        if state.cpu_nms is True or not from_cache:
            succeeds(*pip, 'cache', 'remove', 'onedl_mmcv')
        succeeds(*pip, 'uninstall', '--yes', 'onedl-mmcv')
        environment.install(
            '--no-build-isolation',  # an isolated build finds no torch, and silently builds no operators
            *environment.pinned('onedl-mmcv'),
            detail=lambda: mmcv_operators.count_compiled(environment.temporary),
            MMCV_WITH_OPS='1',
            MAX_JOBS=str(environment.jobs),
            CFLAGS='-g0',  # debug symbols double the time of compilation
            **plan.env,
        )
        marker.write_text(state.torch)
    state = mmcv_operators.probe_operators(environment.python)
    if not state.meets(plan):
        found = state.cuda_nms if state.cpu_nms is True else state.cpu_nms
        raise CommandError(f'mmcv was built, but its operators do not run: {found}')


def install_package(environment: Environment) -> None:
    """Install this package as a link to the checkout, with the host libraries and the development tools."""
    extras = 'onedl,data,export,ray,hub,demo,docs,lab,dev'
    environment.install('--no-build-isolation', '-e', f'{environment.root}[{extras}]')


def import_packages(environment: Environment) -> None:
    """Import the installed packages, to check them."""
    if not succeeds(str(environment.python), '-c', 'import cv2'):
        # opencv-python needs the system's libGL; the headless build replaces it and does not
        headless = environment.pinned('opencv-python-headless')
        environment.install('--force-reinstall', '--no-deps', *headless)
    hosts = 'import mmcv.ops, mmdet.models, mmseg.models, mmpretrain.models, protuning_mm'
    environment.run(str(environment.python), '-c', hosts)


PROJECT = (CONSTRAINTS, 'pyproject.toml')
STEPS = (
    Step('tools', 'environment and build tools', 0.3, 0.2, make_tools, 'ninja-*.dist-info'),
    Step('torch', 'torch and torchvision (3 GB to download)', 2, 5.5, install_torch, 'torch-*.dist-info'),
    Step('mmcv', 'mmcv and its compiled operators', 10, 0.8, install_mmcv, 'mmcv/_ext*', compiles=True),
    Step('rest', 'the host libraries, timm, this package', 1, 1.5, install_package, 'onedl_mmdet*-info', PROJECT),
    Step('check', 'import everything once', 0.3, 0, import_packages, 'protuning_mm-*.dist-info', PROJECT),
)
