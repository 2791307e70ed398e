"""A task that does not fit the memory: the others go on, and it is read when there is room."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip('fastapi', reason='the extra `serve` is not installed')

from protuning_mm.multitask import MultiTask
from protuning_mm.serving.errors import is_out_of_memory
from tests.mini import REPO
from tests.test_serving.stores import AUTHORIZED, Tasks, serve

# a process of its own, whose address space is limited once it has read one task
SCRIPT = """
import resource
import sys
from pathlib import Path

from tests.test_serving.stores import serve

folder, image = sys.argv[1:]
data = Path(image).read_bytes()


def ask(client, name):
    answer = client.post(f'/v1/tasks/{name}/predict', files=dict(image=data))
    return answer.status_code, answer.json().get('error', ''), answer.headers.get('Retry-After')


def limit_to(more):
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, resource.RLIM_INFINITY))


with serve(Path(folder)) as client:
    assert ask(client, 'cls')[0] == 200
    limit_to(768 << 20)  # enough for threads and their stacks, not for the delta
    status, error, again = ask(client, 'large')
    assert (status, again) == (503, '10'), (status, error)
    assert error == "there is no memory for task 'large' beside the tasks in use", error
    assert ask(client, 'cls')[0] == 200
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert ask(client, 'large')[0] == 200
print('as expected')
"""


def test_no_address_space_for_one_more_task(tasks: Tasks, tmp_path: Path) -> None:
    folder = tasks.store(tmp_path / 's', 'cls')
    # the same task, with a delta that alone needs 1.5 GiB
    (folder / 'large').mkdir()
    large = torch.load(tasks.deltas['other'], weights_only=True)
    large['ballast'] = torch.zeros(3 << 27)
    torch.save(large, folder / 'large/mine.pth')
    (folder / 'large/task.json').write_text('{"config": "cls.py", "delta": "mine.pth"}')
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT, folder, tasks.images[0]],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == 'as expected', done.stdout + done.stderr[-3000:]


def test_tasks_without_requests_make_room(tasks: Tasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt fails as torch fails on a CPU; nothing is answered but the result of the second."""
    add, attempts = MultiTask.add, []

    def add_when_alone(self: MultiTask, name: str, *args: Any) -> None:
        attempts.append((name.partition('@')[0], len(self.tasks)))
        if name.startswith('other') and len(self.tasks) > 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        add(self, name, *args)

    with serve(tasks.store(tmp_path / 's', 'cls', 'det', 'other')) as client:
        files = dict(image=tasks.images[0].read_bytes())
        for name in ('cls', 'det'):
            assert client.post(f'/v1/tasks/{name}/predict', files=files).status_code == 200
        monkeypatch.setattr(MultiTask, 'add', add_when_alone)
        assert client.post('/v1/tasks/other/predict', files=files).status_code == 200
        assert attempts == [('other', 2), ('other', 1)]
        resident = {task['name'] for task in client.get('/v1/tasks').json()['tasks'] if task['resident']}
        assert resident == {'det', 'other'}
        # an upload without room keeps what is there
        monkeypatch.setattr(MultiTask, 'add', lambda *_: (_ for _ in ()).throw(MemoryError))
        answer = client.put('/v1/tasks/det', files=tasks.files('det'), headers=AUTHORIZED)
        assert answer.status_code == 503 and answer.headers['Retry-After'] == '10'
        assert client.post('/v1/tasks/other/predict', files=files).status_code == 200


def test_errors_of_memory() -> None:
    try:
        try:
            torch.empty(1 << 60, dtype=torch.uint8)
        except RuntimeError as error:
            raise ValueError('a wrapper') from error
    except ValueError as error:
        assert is_out_of_memory(error)
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError())
    assert not is_out_of_memory(RuntimeError('shape')) and not is_out_of_memory(None)
