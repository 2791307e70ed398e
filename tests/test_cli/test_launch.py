"""Distributed runs on a CPU end the threads of their process group before the interpreter exits."""

import os
import socket
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]

# the function that is registered first runs last, after the process group has ended
SCRIPT = """
import atexit, gc, weakref

import torch.distributed as dist
from mmengine.config import Config
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from protuning_mm.engine.launch import prepare_cpu_ranks

gc.disable()
atexit.register(lambda: print('left', not dist.is_initialized(), wrapped() is None))
prepare_cpu_ranks(Config(dict(launcher='pytorch', model=dict())))
model = DistributedDataParallel(nn.Linear(2, 2))
model.hook = model.register_forward_hook(lambda *args: model)  # a reference cycle, such as a runner's model is part of
wrapped = weakref.ref(model)
del model
print('there', dist.is_initialized(), wrapped() is not None)
"""


def test_threads_of_the_process_group_end_before_the_interpreter() -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    ranks = dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
    env = os.environ | ranks | dict(PYTHONPATH=str(REPO), CUDA_VISIBLE_DEVICES='')
    done = subprocess.run([sys.executable, '-c', SCRIPT], env=env, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(('there', 'left'))]
    assert lines == ['there True True', 'left True True'], done.stdout + done.stderr
    assert done.returncode == 0
