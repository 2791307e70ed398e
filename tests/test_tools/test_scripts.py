"""The shell scripts check their arguments before they start Python."""

import subprocess

import pytest

from tests.mini import REPO

USAGES = {
    'dist_train.sh': (['CONFIG', 'PROCESSES'], ['c.py', '2']),
    'dist_test.sh': (['CONFIG', 'CHECKPOINT', 'PROCESSES'], ['c.py', 'c.pth', '2']),
    'slurm_train.sh': (['PARTITION', 'JOB_NAME', 'CONFIG', 'WORK_DIR'], ['gpu', 'job', 'c.py', 'out']),
}


def call(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(REPO / 'tools' / script), *args], capture_output=True, text=True, check=False)


@pytest.mark.parametrize('script', list(USAGES))
def test_too_few_arguments(script: str) -> None:
    names, args = USAGES[script]
    for count in range(len(args)):
        done = call(script, *args[:count])
        assert done.returncode == 2
        assert done.stderr.startswith(f'usage: {script} {" ".join(names)} '), done.stderr
        assert 'unbound' not in done.stderr


@pytest.mark.parametrize('processes', ['two', '0', '-1', '', '--work-dir'])
def test_number_of_processes_is_not_a_number(processes: str) -> None:
    for script, args in (('dist_train.sh', ['c.py']), ('dist_test.sh', ['c.py', 'c.pth'])):
        done = call(script, *args, processes)
        assert done.returncode == 2
        assert f"PROCESSES must be a number, but is '{processes}'" in done.stderr and len(done.stderr.splitlines()) == 1
