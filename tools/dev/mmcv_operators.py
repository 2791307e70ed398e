"""Decides how to compile mmcv's operators on this machine, and checks that the installed operators work.

mmcv can be built without operators, or without CUDA operators, and reports no error. Only running an operator shows it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from progress import CommandError

# run inside .venv; every value is True or the reason of the failure
PROBE = """
import json, sys
def attempt(work):
    try:
        work()
        return True
    except Exception as error:
        return f'{type(error).__name__}: {error}'.splitlines()[0]
def nms(device):
    import torch
    from mmcv.ops import nms
    boxes = torch.tensor([[0., 0., 10., 10.], [1., 1., 10., 10.], [20., 20., 30., 30.]], device=device)
    _, kept = nms(boxes, torch.tensor([.9, .8, .7], device=device), 0.5)
    assert kept.tolist() == [0, 2], f'nms kept {kept.tolist()}, not [0, 2]'
def cuda():
    import torch
    torch.zeros(1).cuda()
import torch
print(json.dumps(dict(torch=torch.__version__, torch_cuda=torch.version.cuda,
                      cuda=attempt(cuda), cpu_nms=attempt(lambda: nms('cpu')), cuda_nms=attempt(lambda: nms('cuda')))))
"""


@dataclass(frozen=True)
class Gpus:
    """The GPUs of a machine, and its CUDA toolkit: the folder with bin/nvcc and the headers."""

    names: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    driver: str | None = None
    toolkit: str | None = None
    toolkit_version: str | None = None


@dataclass(frozen=True)
class Plan:
    """Whether to build CUDA operators, the environment variables of the build, and a note to print."""

    cuda: bool
    env: dict[str, str] = field(default_factory=dict)
    note: str = ''


@dataclass(frozen=True)
class State:
    """What the installed torch and mmcv can do: ``True``, or the reason of the failure."""

    torch: str
    torch_cuda: str | None
    cuda: bool | str
    cpu_nms: bool | str
    cuda_nms: bool | str

    def meets(self, plan: Plan) -> bool:
        """Return whether the planned operators run."""
        return self.cpu_nms is True and (not plan.cuda or self.cuda_nms is True)


def capture_output(*command: str) -> str:
    """Run a command and return its standard output; an empty string if it cannot be run."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60).stdout.decode()
    except (OSError, subprocess.TimeoutExpired):
        return ''


def find_toolkit() -> str | None:
    """Find the folder with nvcc and CUDA's headers: CUDA_HOME, the folder of nvcc, or the default folders.

    An nvcc on the path can be a script that calls another one, so only a folder with the headers is accepted.
    """
    nvcc = shutil.which('nvcc')
    of_nvcc = [Path(nvcc).resolve().parents[1]] if nvcc else []
    chosen = [Path(os.environ['CUDA_HOME'])] if os.environ.get('CUDA_HOME') else []
    default = [Path('/usr/local/cuda'), *sorted(Path('/usr/local').glob('cuda-*'), reverse=True)]
    for folder in chosen or of_nvcc + default:
        if (folder / 'bin/nvcc').is_file() and (folder / 'include/cuda_runtime.h').is_file():
            return str(folder)
    return None


def find_gpus() -> Gpus:
    """Get the GPUs from nvidia-smi, and the version of the toolkit from nvcc."""
    rows = capture_output(
        'nvidia-smi', '--query-gpu=name,driver_version,compute_cap', '--format=csv,noheader'
    ).splitlines()
    cards = [tuple(value.strip() for value in row.rsplit(',', 2)) for row in rows]
    cards = [card for card in cards if len(card) == 3 and re.fullmatch(r'\d+\.\d+', card[2])]
    toolkit = find_toolkit()
    version = re.search(r'release (\d+\.\d+)', capture_output(f'{toolkit}/bin/nvcc', '--version')) if toolkit else None
    return Gpus(
        names=tuple(card[0] for card in cards),
        capabilities=tuple(sorted({card[2] for card in cards})),
        driver=cards[0][1] if cards else None,
        toolkit=toolkit,
        toolkit_version=version.group(1) if version else None,
    )


def plan_build(gpus: Gpus, state: State) -> Plan:
    """Choose CPU or CUDA operators; CUDA needs a GPU that torch can use and an nvcc of torch's major CUDA version."""
    # with a visible GPU but without a usable nvcc, mmcv would try a CUDA build and fail
    on_cpu = {'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''}
    if not gpus.names:
        return Plan(False, on_cpu, 'No GPU found (nvidia-smi lists none): everything runs on the CPU.')
    card = gpus.names[0]
    if state.torch_cuda is None:
        reason = f'torch {state.torch} was built without CUDA. Remove .venv and run make setup again'
    elif state.cuda is not True:
        reason = (
            f'torch {state.torch} cannot use it ({state.cuda}). '
            f'Its CUDA {state.torch_cuda} may need a newer driver than {gpus.driver}'
        )
    elif gpus.toolkit is None:
        reason = (
            'there is no nvcc with CUDA headers. '
            f'Install the CUDA toolkit {state.torch_cuda} (or set CUDA_HOME to it) and run make setup again'
        )
    elif (gpus.toolkit_version or '').split('.')[0] != state.torch_cuda.split('.')[0]:
        reason = (
            f'{gpus.toolkit} is CUDA {gpus.toolkit_version}, torch {state.torch} was built with {state.torch_cuda}. '
            f'Install the CUDA toolkit {state.torch_cuda} (or set CUDA_HOME to it) and run make setup again'
        )
    else:
        architectures = os.environ.get('TORCH_CUDA_ARCH_LIST') or ';'.join(gpus.capabilities)
        env = {'FORCE_CUDA': '1', 'TORCH_CUDA_ARCH_LIST': architectures, 'CUDA_HOME': gpus.toolkit}
        return Plan(True, env, f'{card} found, and CUDA {gpus.toolkit_version}: CUDA operators are compiled, too.')
    return Plan(
        False,
        on_cpu,
        f"{card} found, but mmcv's CUDA operators are not built: {reason}.\n"
        'Until then, models that need them (RoIAlign, deformable convolution, NMS: all detectors) run on the CPU only.',
    )


def probe_operators(python: Path) -> State:
    """Run the operators with an interpreter, and return the results."""
    answer = capture_output(str(python), '-c', PROBE)
    if not answer:
        raise CommandError(f'{python} cannot import torch; to see the error, run {python} -c "import torch"')
    return State(**json.loads(answer.splitlines()[-1]))


def count_compiled(folder: Path) -> str:
    """Count the compiled files below pip's temporary folder, of the files in ninja's build plan."""
    plans = list(folder.rglob('build.ninja'))
    if not plans:
        return ''
    total = plans[0].read_text(errors='replace').count('.o: ')
    done = sum(1 for _ in plans[0].parent.rglob('*.o'))
    return f'{done} of {total} files compiled'
