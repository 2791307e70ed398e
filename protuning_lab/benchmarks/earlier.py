"""Frozen execution of this version beside that of an earlier commit, in one process."""

import copy
import importlib
import io
import subprocess
import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from types import ModuleType

import torch
from torch import Tensor, nn

from protuning_lab.measure import Stopwatch, interleaved_times, median_ratio
from protuning_mm import frozen

_PACKAGE = 'protuning_mm.frozen'
_REPOSITORY = Path(__file__).resolve().parents[2]


def load_frozen_package(revision: str) -> ModuleType:
    """Import ``protuning_mm.frozen`` of a commit under another name. The package imports only torch and itself.

    Args:
        revision (str): A commit, tag or branch of this repository.

    Raises:
        ValueError: git does not have the commit, or the commit does not have the package.
    """
    folder = _PACKAGE.replace('.', '/')
    found = subprocess.run(['git', 'archive', revision, folder], cwd=_REPOSITORY, capture_output=True)
    if found.returncode:
        raise ValueError(f'--against {revision}: git cannot read {folder} there ({found.stderr.decode().strip()})')
    name = f'frozen_at_{"".join(c if c.isalnum() else "_" for c in revision)}'
    with tempfile.TemporaryDirectory() as root:
        with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
            archive.extractall(root, filter='data')
        package = (Path(root) / folder).rename(Path(root) / name)
        for file in package.rglob('*.py'):
            file.write_text(file.read_text().replace(_PACKAGE, name))
        sys.path.insert(0, root)
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(root)


def compare(network: nn.Module, image: Tensor, revision: str, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Time a frozen network under both versions, alternately.

    Args:
        network (nn.Module): A network that maps the image to a sequence of feature maps. It is copied, not changed.
        image (Tensor): (N, 3, H, W).
        revision (str): The commit to compare with.
        rounds (int): Number of timed rounds.

    Returns:
        dict: Version -> ``'step'`` (forward, and backward to the image) and ``'evaluation'`` (forward without a graph)
        -> seconds of each round.

    Raises:
        ValueError: see :func:`load_frozen_package`.
    """
    times: dict[str, dict[str, list[float]]] = {}
    networks = {}
    for version, package in {revision: load_frozen_package(revision), 'this version': frozen}.items():
        networks[version] = copy.deepcopy(network).requires_grad_(False)
        networks[version].eval()  # not chained, because eval() of some hosts returns None
        package.freeze_efficiently(networks[version])
    for measured in (_step, _evaluate):
        runs = {version: partial(measured, net, image) for version, net in networks.items()}
        for version, found in interleaved_times(runs, rounds).items():
            times.setdefault(version, {}).update(found)
    return times


def _step(network: nn.Module, image: Tensor) -> dict[str, float]:
    image = image.detach().requires_grad_()
    watch = Stopwatch(image.device)
    outs = network(image)
    torch.stack([out.mean() for out in outs]).sum().backward()
    return dict(step=watch.look())


def _evaluate(network: nn.Module, image: Tensor) -> dict[str, float]:
    with torch.no_grad():
        watch = Stopwatch(image.device)
        network(image)
        return dict(evaluation=watch.look())


def comparison_table(times: dict[str, dict[str, list[float]]]) -> str:
    """Return a Markdown table of median times, and of the median ratio of this version to the earlier one."""
    (revision, earlier), (_, now) = times.items()
    lines = [f'| | {revision}, ms | this version, ms | ratio |', '|---|---:|---:|---:|']
    for part in earlier:
        medians = ' | '.join(f'{1000 * median(version[part]):.1f}' for version in (earlier, now))
        lines.append(f'| {part} | {medians} | {median_ratio(now[part], earlier[part]):.3f} |')
    return '\n'.join(lines)
