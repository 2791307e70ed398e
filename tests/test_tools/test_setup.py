"""make setup on machines that lack something, and what it makes of interruptions. No step is really done here."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from environment import Environment
from machine import Machine, Python, ask, build_jobs, find_python, problems
from mmcv_operators import Gpus, State, compiled, plan_build
from progress import CommandError, run
from setup_venv import ROOT, is_done, key, remedy, set_up, steps_to_do
from steps import STEPS

GOOD_PYTHON = Python('python3.11', (3, 11), has_venv=True, has_headers=True, header='/usr/include/python3.11/Python.h')
GOOD = Machine(GOOD_PYTHON, compiler='/usr/bin/g++', free_gb=50, cores=2, memory_gb=16)
NO_DRIVER = 'RuntimeError: Found no NVIDIA driver'
CPU_TORCH = State('2.13.0+cpu', None, 'AssertionError: not compiled with CUDA', True, 'no CUDA')
CUDA_TORCH = State('2.13.0', '13.0', True, True, 'RuntimeError: nms is not compiled with GPU support')
H200 = Gpus(('NVIDIA H200',), ('9.0',), driver='580.65', toolkit='/opt/cuda', toolkit_version='13.0')


def faults(machine: Machine) -> str:
    return '\n'.join(problems(machine, needed_gb=8, compiles=True, makes_venv=True))


def with_python(**changes: object) -> Machine:
    return dataclasses.replace(GOOD, python=dataclasses.replace(GOOD_PYTHON, **changes))


def test_nothing_to_complain_about() -> None:
    assert faults(GOOD) == ''


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
def test_what_is_missing_is_named_with_its_remedy(machine: Machine, found: str, remedy: str) -> None:
    message = faults(machine)
    assert found in message
    assert remedy in message


def test_everything_that_is_missing_is_told_at_once() -> None:
    bare = dataclasses.replace(GOOD, compiler=None, free_gb=1)
    assert len(problems(bare, needed_gb=8, compiles=True, makes_venv=True)) == 2
    # once mmcv is compiled no compiler is asked for
    assert len(problems(bare, needed_gb=0, compiles=False, makes_venv=False)) == 0


def test_one_compiler_a_core_within_memory() -> None:
    assert build_jobs(dataclasses.replace(GOOD, cores=16, memory_gb=64)) == 16
    assert build_jobs(dataclasses.replace(GOOD, cores=16, memory_gb=8)) == 4
    assert build_jobs(dataclasses.replace(GOOD, cores=2, memory_gb=1)) == 1


def test_an_interpreter_answers_for_itself(tmp_path: Path) -> None:
    here = ask(sys.executable)
    assert here is not None
    assert here.version == sys.version_info[:2]
    # what a version manager leaves on the path for versions that are not there
    shim = tmp_path / 'python3.12'
    shim.write_text('#!/bin/sh\necho "command not found" >&2\nexit 127\n')
    shim.chmod(0o755)
    assert ask(str(shim)) is None
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
    # operators for the CPU alone, which mmcv builds silently, are not what was planned
    assert not CUDA_TORCH.meets(plan)
    assert dataclasses.replace(CUDA_TORCH, cuda_nms=True).meets(plan)


@pytest.mark.parametrize(
    ('gpus', 'state', 'why'),
    [
        (dataclasses.replace(H200, toolkit=None, toolkit_version=None), CUDA_TORCH, 'Install the CUDA toolkit 13.0'),
        (dataclasses.replace(H200, toolkit_version='12.4'), CUDA_TORCH, '/opt/cuda is CUDA 12.4'),
        (H200, CPU_TORCH, 'built without CUDA'),
        (H200, dataclasses.replace(CUDA_TORCH, cuda=NO_DRIVER), 'newer driver than 580.65'),
    ],
)
def test_a_gpu_that_cannot_be_used_is_explained(gpus: Gpus, state: State, why: str) -> None:
    plan = plan_build(gpus, state)
    assert not plan.cuda
    assert 'NVIDIA H200 found' in plan.note
    assert why in plan.note


def test_compiled_files_are_counted(tmp_path: Path) -> None:
    assert compiled(tmp_path) == ''
    build = tmp_path / 'pip-install/build'
    (build / 'ops').mkdir(parents=True)
    (build / 'build.ninja').write_text('build a.o: compile a.cpp\nbuild ops/b.o: compile b.cpp\n')
    (build / 'ops/b.o').touch()
    assert compiled(tmp_path) == '1 of 2 files compiled'


@pytest.fixture
def checkout(tmp_path: Path) -> Environment:
    """A checkout whose .venv holds an interpreter and nothing else."""
    for name in {name for step in STEPS for name in step.depends}:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    environment = Environment(tmp_path, sys.executable)
    environment.notes.mkdir(parents=True)
    environment.python.parent.mkdir()
    environment.python.symlink_to(sys.executable)
    return environment


def stamp(environment: Environment, *names: str) -> None:
    for step in STEPS:
        if step.name in names:
            (environment.notes / step.name).write_text(key(environment, step))


def test_goes_on_after_the_last_finished_step(checkout: Environment) -> None:
    assert steps_to_do(checkout) == list(STEPS)
    stamp(checkout, 'tools', 'torch')
    assert [step.name for step in steps_to_do(checkout)] == ['mmcv', 'rest', 'check']
    # a step counts only with all that stand before it
    stamp(checkout, 'check')
    assert [step.name for step in steps_to_do(checkout)] == ['mmcv', 'rest', 'check']


def test_second_run_does_nothing(checkout: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    stamp(checkout, *(step.name for step in STEPS))
    assert set_up(checkout) == 0
    assert 'up to date' in capsys.readouterr().out


def test_changed_versions_or_a_moved_checkout_are_noticed(checkout: Environment) -> None:
    stamp(checkout, *(step.name for step in STEPS))
    constraints = checkout.root / 'requirements/constraints-onedl.txt'
    before = constraints.read_text()
    constraints.write_text(before + 'another==1.0\n')
    assert steps_to_do(checkout) == list(STEPS)
    constraints.write_text(before)
    assert steps_to_do(checkout) == []
    checkout.python.unlink()
    assert not any(is_done(checkout, step) for step in STEPS)


def test_half_made_environment_is_noticed(checkout: Environment) -> None:
    assert checkout.works()
    checkout.python.unlink()
    checkout.python.write_text('')
    assert not checkout.works()
    assert checkout.interpreter().path == sys.executable


def test_constraints_pin_what_the_steps_ask_for() -> None:
    environment = Environment(ROOT)
    # with two equals signs pip may take a local +cpu build
    assert environment.pinned('torch') == ['torch===2.13.0']
    assert len(environment.pinned('pip', 'setuptools', 'ninja', 'psutil', 'onedl-mmcv', 'opencv-python-headless')) == 6


def test_failing_command_ends_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / 'log.txt'
    command = [sys.executable, '-c', 'print("reaching out"); raise SystemExit("ERROR: No space left on device")']
    with pytest.raises(CommandError, match='No space left') as raised:
        run('a step', command, log, {})
    assert 'reaching out' in log.read_text()
    assert remedy(str(raised.value)).startswith('The disk is full')


def test_make_names_a_python_that_is_not_there() -> None:
    make = subprocess.run(['make', 'setup', 'PYTHON=python9.9'], cwd=ROOT, capture_output=True, text=True)
    assert make.returncode != 0
    assert 'python9.9' in make.stdout
    assert 'Needed is Python 3.10 to 3.13' in make.stdout
