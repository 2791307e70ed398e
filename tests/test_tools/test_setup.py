"""make setup: missing requirements, interruptions and errors. The tests run no step of the set-up."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from environment import Environment
from machine import Machine, Python, build_jobs, find_problems, find_python, probe_python
from mmcv_operators import Gpus, State, count_compiled, plan_build
from progress import CommandError, run
from setup_venv import ROOT, hash_inputs, is_done, remaining_steps, set_up, suggest_remedy
from steps import STEPS

GOOD_PYTHON = Python('python3.11', (3, 11), has_venv=True, has_headers=True, header='/usr/include/python3.11/Python.h')
GOOD = Machine(GOOD_PYTHON, compiler='/usr/bin/g++', free_gb=50, cores=2, memory_gb=16)
NO_DRIVER = 'RuntimeError: Found no NVIDIA driver'
CPU_TORCH = State('2.13.0+cpu', None, 'AssertionError: not compiled with CUDA', True, 'no CUDA')
CUDA_TORCH = State('2.13.0', '13.0', True, True, 'RuntimeError: nms is not compiled with GPU support')
H200 = Gpus(('NVIDIA H200',), ('9.0',), driver='580.65', toolkit='/opt/cuda', toolkit_version='13.0')


def list_problems(machine: Machine) -> str:
    return '\n'.join(find_problems(machine, needed_gb=8, compiles=True, makes_venv=True))


def with_python(**changes: object) -> Machine:
    return dataclasses.replace(GOOD, python=dataclasses.replace(GOOD_PYTHON, **changes))


def test_machine_without_problems() -> None:
    assert list_problems(GOOD) == ''


@pytest.mark.parametrize(
    ('machine', 'found', 'remedy'),
    [
        (dataclasses.replace(GOOD, free_gb=3.14), '3.1 GB are free', 'Free some'),
        (dataclasses.replace(GOOD, compiler=None), 'no C++ compiler', 'apt-get install g++'),
        (with_python(version=(3, 8)), 'Python 3.8, too old', 'PYTHON=python3.11'),
        (with_python(version=(3, 15)), 'Python 3.15, too new', 'PYTHON=python3.11'),
        (with_python(version=(0, 0), path='/no/such'), '/no/such does not start', 'PYTHON=python3.11'),
        (with_python(has_venv=False), 'no modules venv and ensurepip', 'apt-get install python3.11-venv'),
        (with_python(has_headers=False), '/usr/include/python3.11/Python.h', 'apt-get install python3.11-dev'),
    ],
)
def test_problem_has_a_remedy(machine: Machine, found: str, remedy: str) -> None:
    message = list_problems(machine)
    assert found in message
    assert remedy in message


def test_all_problems_are_reported_together() -> None:
    bare = dataclasses.replace(GOOD, compiler=None, free_gb=1)
    assert len(find_problems(bare, needed_gb=8, compiles=True, makes_venv=True)) == 2
    # after mmcv is compiled, no compiler is needed
    assert len(find_problems(bare, needed_gb=0, compiles=False, makes_venv=False)) == 0


def test_one_compiler_per_core_if_memory_allows() -> None:
    assert build_jobs(dataclasses.replace(GOOD, cores=16, memory_gb=64)) == 16
    assert build_jobs(dataclasses.replace(GOOD, cores=16, memory_gb=8)) == 4
    assert build_jobs(dataclasses.replace(GOOD, cores=2, memory_gb=1)) == 1


def test_probe_python(tmp_path: Path) -> None:
    running = probe_python(sys.executable)
    assert running is not None
    assert running.version == sys.version_info[:2]
    # version managers leave such scripts on the path for versions that are not installed
    shim = tmp_path / 'python3.12'
    shim.write_text('#!/bin/sh\necho "command not found" >&2\nexit 127\n')
    shim.chmod(0o755)
    assert probe_python(str(shim)) is None
    assert find_python(str(shim)).version == (0, 0)


def test_cpu_only_machine_builds_for_the_cpu() -> None:
    plan = plan_build(Gpus(toolkit='/opt/cuda', toolkit_version='13.0'), CUDA_TORCH)
    assert not plan.cuda
    assert plan.env == {'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''}
    assert CUDA_TORCH.meets(plan)


def test_gpu_and_toolkit_build_for_cuda() -> None:
    plan = plan_build(H200, CUDA_TORCH)
    assert plan.cuda
    assert plan.env == {'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': '9.0', 'CUDA_HOME': '/opt/cuda'}
    # operators for the CPU only, which mmcv builds without an error, do not meet the plan
    assert not CUDA_TORCH.meets(plan)
    assert dataclasses.replace(CUDA_TORCH, cuda_nms=True).meets(plan)


@pytest.mark.parametrize(
    ('gpus', 'state', 'reason'),
    [
        (dataclasses.replace(H200, toolkit=None, toolkit_version=None), CUDA_TORCH, 'Install the CUDA toolkit 13.0'),
        (dataclasses.replace(H200, toolkit_version='12.4'), CUDA_TORCH, '/opt/cuda is CUDA 12.4'),
        (H200, CPU_TORCH, 'built without CUDA'),
        (H200, dataclasses.replace(CUDA_TORCH, cuda=NO_DRIVER), 'newer driver than 580.65'),
    ],
)
def test_reason_why_a_gpu_cannot_be_used(gpus: Gpus, state: State, reason: str) -> None:
    plan = plan_build(gpus, state)
    assert not plan.cuda
    assert 'NVIDIA H200 found' in plan.note
    assert reason in plan.note


def test_count_compiled(tmp_path: Path) -> None:
    assert count_compiled(tmp_path) == ''
    build = tmp_path / 'pip-install/build'
    (build / 'ops').mkdir(parents=True)
    (build / 'build.ninja').write_text('build a.o: compile a.cpp\nbuild ops/b.o: compile b.cpp\n')
    (build / 'ops/b.o').touch()
    assert count_compiled(tmp_path) == '1 of 2 files compiled'


@pytest.fixture
def checkout(tmp_path: Path) -> Environment:
    """Return a checkout whose .venv has only an interpreter."""
    for name in {name for step in STEPS for name in step.depends}:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    environment = Environment(tmp_path, sys.executable)
    environment.setup_folder.mkdir(parents=True)
    environment.python.parent.mkdir()
    environment.python.symlink_to(sys.executable)
    return environment


def stamp(environment: Environment, *names: str) -> None:
    for step in STEPS:
        if step.name in names:
            (environment.setup_folder / step.name).write_text(hash_inputs(environment, step))


def test_continues_after_the_last_finished_step(checkout: Environment) -> None:
    assert remaining_steps(checkout) == list(STEPS)
    stamp(checkout, 'tools', 'torch')
    assert [step.name for step in remaining_steps(checkout)] == ['mmcv', 'rest', 'check']
    # a step counts only if all steps before it are finished
    stamp(checkout, 'check')
    assert [step.name for step in remaining_steps(checkout)] == ['mmcv', 'rest', 'check']


def test_second_run_does_nothing(checkout: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    stamp(checkout, *(step.name for step in STEPS))
    assert set_up(checkout) == 0
    assert 'up to date' in capsys.readouterr().out


def test_changed_versions_repeat_the_steps(checkout: Environment) -> None:
    stamp(checkout, *(step.name for step in STEPS))
    constraints = checkout.root / 'requirements/constraints-onedl.txt'
    before = constraints.read_text()
    constraints.write_text(before + 'another==1.0\n')
    assert remaining_steps(checkout) == list(STEPS)
    constraints.write_text(before)
    assert remaining_steps(checkout) == []
    checkout.python.unlink()
    assert not any(is_done(checkout, step) for step in STEPS)


def test_incomplete_environment_does_not_work(checkout: Environment) -> None:
    assert checkout.works()
    checkout.python.unlink()
    checkout.python.write_text('')
    assert not checkout.works()
    assert checkout.find_interpreter().path == sys.executable


def test_constraints_pin_the_packages_of_the_steps() -> None:
    environment = Environment(ROOT)
    # with two equals signs, pip accepts a local version such as +cpu
    assert environment.pinned('torch') == ['torch===2.13.0']
    assert len(environment.pinned('pip', 'setuptools', 'ninja', 'psutil', 'onedl-mmcv', 'opencv-python-headless')) == 6


def test_error_of_a_failing_command(tmp_path: Path) -> None:
    log = tmp_path / 'log.txt'
    command = [sys.executable, '-c', 'print("reaching out"); raise SystemExit("ERROR: No space left on device")']
    with pytest.raises(CommandError, match='No space left') as raised:
        run('a step', command, log, {})
    assert 'reaching out' in log.read_text()
    assert suggest_remedy(str(raised.value)).startswith('The disk is full')


def test_make_setup_with_a_missing_python() -> None:
    make = subprocess.run(['make', 'setup', 'PYTHON=python9.9'], cwd=ROOT, capture_output=True, text=True)
    assert make.returncode != 0
    assert 'python9.9' in make.stdout
    assert 'Python 3.10 to 3.13 is needed' in make.stdout
