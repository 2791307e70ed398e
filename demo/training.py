"""Runs the package's tools in subprocesses, as a user would, and prints their progress."""

import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAIN_STEP = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].* eta: (\S+).* loss: ([\d.]+)')
VALIDATED = re.compile(r'Epoch\((?:val|test)\).*coco/bbox_mAP: ([\d.-]+).*coco/segm_mAP: ([\d.-]+)')
TOTAL = re.compile(r'^total\s+([\d,]+)\s+([\d,]+)$')
_SHOWN = 40  # lines of a failed tool's output to show


class ToolError(RuntimeError):
    """A tool ended with an error."""


@dataclass(frozen=True)
class Run:
    """A finished training.

    Args:
        work_dir (Path): The work dir.
        bbox (float): mAP of the boxes after the last epoch.
        segm (float): mAP of the masks after the last epoch.
        trained (int): Number of trained parameters.
        frozen (int): Number of frozen parameters.
        seconds (float): Duration of the process.
    """

    work_dir: Path
    bbox: float
    segm: float
    trained: int
    frozen: int
    seconds: float

    @property
    def checkpoint(self) -> Path:
        """The latest checkpoint."""
        return Path((self.work_dir / 'last_checkpoint').read_text().strip())

    def scalars(self) -> list[dict[str, float]]:
        """Return the logged values of training and validation, oldest first."""
        newest = max(self.work_dir.glob('*/vis_data/scalars.json'))
        return [json.loads(line) for line in newest.read_text().splitlines()]


def train(config: Path, work_dir: Path, options: Sequence[str], name: str = '', threads: int | None = None) -> Run:
    """Train through ``tools/train.py``, which validates after every epoch.

    Args:
        config (Path): The config.
        work_dir (Path): Work dir of the tool.
        options (Sequence[str]): ``key=value`` settings that override the config's.
        name (str): Prefix of the progress lines. Defaults to ''.
        threads (int, optional): Number of torch threads. Defaults to torch's choice.

    Raises:
        ToolError: the tool failed; the end of its output is in the message.
    """
    start = time.perf_counter()
    command = ['tools/train.py', str(config), '--work-dir', str(work_dir), '--cfg-options', *options]
    lines = _run(command, name, threads)
    totals = next(match for line in lines if (match := TOTAL.match(line)))
    results = [match for line in lines if (match := VALIDATED.search(line))]
    return Run(
        work_dir=work_dir,
        bbox=float(results[-1][1]),
        segm=float(results[-1][2]),
        trained=int(totals[1].replace(',', '')),
        frozen=int(totals[2].replace(',', '')),
        seconds=time.perf_counter() - start,
    )


def test(config: Path, checkpoint: Path, work_dir: Path, options: Sequence[str]) -> tuple[float, float]:
    """Evaluate a checkpoint through ``tools/test.py``.

    Returns:
        tuple[float, float]: mAP of the boxes and of the masks.

    Raises:
        ToolError: the tool failed; the end of its output is in the message.
    """
    lines = _run(
        ['tools/test.py', str(config), str(checkpoint), '--work-dir', str(work_dir), '--cfg-options', *options]
    )
    result = [match for line in lines if (match := VALIDATED.search(line))][-1]
    return float(result[1]), float(result[2])


def _run(command: Sequence[str], name: str = '', threads: int | None = None) -> list[str]:
    """Run a tool to its end, show its progress, and return every line that it printed."""
    env = dict(os.environ)
    if threads is not None:
        env['OMP_NUM_THREADS'] = str(threads)
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if (shown := _progress(line)) is not None:
            print(f'    {name:<12}{shown}', flush=True)
    if process.wait():
        tail = '\n'.join(deque(lines, _SHOWN))
        raise ToolError(f'{" ".join(command)} ended with {process.returncode}:\n{tail}')
    return lines


def _progress(line: str) -> str | None:
    if step := TRAIN_STEP.search(line):
        epoch, done, total, left, loss = step.groups()
        return f'epoch {epoch}  {done:>3}/{total}  loss {float(loss):6.3f}  {left.removeprefix("0:")} left'
    if result := VALIDATED.search(line):
        return f'validated: bbox mAP {float(result[1]):.3f}  segm mAP {float(result[2]):.3f}'
    return None
