"""What runs logged: mmengine's ``vis_data/scalars.json``, of one run from all its folders."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protuning_lab.pictures.canvas import PictureError

_LOG = 'vis_data/scalars.json'
_SEED = re.compile(r'[_-]seed[_-]?\d+$')


@dataclass(frozen=True)
class Record:
    """One line of a log.

    Args:
        reached (int): The iteration that had been logged last in its file, this line's own included.
        trained (bool): Whether it was logged while training; otherwise by a validation.
        step (int): Iteration, or the epoch of a validation that counts by epochs.
        values (dict): What was logged.
    """

    reached: int
    trained: bool
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Curve:
    """One metric of one run.

    Args:
        steps (list[int]): Where it was logged, rising.
        values (list[float]): What was logged there.
        unit (str): What the steps count: ``'iteration'`` or ``'epoch'``.
        trained (bool): Whether it was logged while training.
    """

    steps: list[int]
    values: list[float]
    unit: str
    trained: bool


@dataclass(frozen=True)
class Run:
    """A run.

    Args:
        name (str): Its name in the picture.
        folder (Path): Its work dir.
        records (list[Record]): What it logged, without what a resumed run did again.
    """

    name: str
    folder: Path
    records: list[Record]

    @property
    def group(self) -> str:
        """The name without its seed: runs that differ by the seed alone are one group."""
        return _SEED.sub('', self.name)

    @property
    def metrics(self) -> list[str]:
        """The names of what it logged."""
        return sorted({key for record in self.records for key in record.values})

    def curve(self, metric: str) -> Curve:
        """One metric's values.

        Raises:
            PictureError: it was not logged; lists what was.
        """
        found = [record for record in self.records if metric in record.values]
        if not found:
            raise PictureError(f'the logs in {self.folder} hold no {metric!r}. They hold: {", ".join(self.metrics)}')
        last = {record.step: record.values[metric] for record in found}
        trained = found[0].trained
        unit = 'epoch' if not trained and self._validates_by_epoch() else 'iteration'
        return Curve(sorted(last), [last[step] for step in sorted(last)], unit, trained)

    def _validates_by_epoch(self) -> bool:
        """A validation's step that lies before the iteration that had been reached is none: it counts epochs."""
        return any(record.step < record.reached for record in self.records if not record.trained)


def find_runs(folders: Sequence[str | Path], names: Sequence[str] | None = None) -> list[Run]:
    """Read the runs in some folders.

    Args:
        folders (Sequence[str]): Work dirs of ``tools/train.py``, single time-stamped folders in them, or folders whose
            sub-folders are work dirs, as ``compare_runs.py`` leaves them.
        names (Sequence[str], optional): One for each run. Defaults to the folders' own names, as much of their paths as
            tells them apart.

    Raises:
        PictureError: a folder does not exist or has no logs, a log is damaged, or there are more or fewer names than
            runs.
    """
    work_dirs = [found for folder in folders for found in _work_dirs(Path(folder))]
    if names is None:
        names = _short_names(work_dirs)
    elif len(names) != len(work_dirs):
        listed = ', '.join(map(str, work_dirs))
        raise PictureError(f'--names has {len(names)} names for {len(work_dirs)} runs: {listed}')
    return [Run(name, folder, merge(read(log) for log in _logs(folder))) for name, folder in zip(names, work_dirs)]


def read(log: Path) -> list[Record]:
    """Read one log. A last line that a kill cut is left out.

    Raises:
        PictureError: another line is no JSON object.
    """
    records, reached = [], 0
    lines = log.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            content: dict[str, Any] = dict(json.loads(line))
        except (ValueError, TypeError):
            if number == len(lines):
                break
            raise PictureError(f'{log}, line {number} is no JSON object: {line[:60]!r}') from None
        trained = 'iter' in content
        reached = max(reached, int(content.get('iter', 0)))
        values = {
            key: float(value)
            for key, value in content.items()
            if key not in ('step', 'iter', 'epoch') and isinstance(value, int | float)
        }
        records.append(Record(reached, trained, int(content.get('step', content.get('iter', 0))), values))
    return records


def merge(logs: Iterable[list[Record]]) -> list[Record]:
    """Join the logs of a run that was resumed, oldest first: what it did again counts as it was done last."""
    kept: list[Record] = []
    for records in logs:
        first = next((record.step for record in records if record.trained), None)
        if first is not None:
            kept = [record for record in kept if record.reached < first]
        kept += records
    return kept


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average, without its pull to the first value.

    Args:
        values (Sequence[float]): v_1, v_2, …
        weight (float): w, from 0 (nothing) to below 1. The k-th average weighs v_i by w^(k - i).
    """
    smoothed, total, mass = [], 0.0, 0.0
    for value in values:
        total = weight * total + value
        mass = weight * mass + 1
        smoothed.append(total / mass)
    return smoothed


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean of several runs, at the steps that all of them logged."""
    steps = sorted(set.intersection(*(set(curve.steps) for curve in curves)))
    at = [dict(zip(curve.steps, curve.values)) for curve in curves]
    means = [sum(values[step] for values in at) / len(at) for step in steps]
    return Curve(steps, means, curves[0].unit, curves[0].trained)


def _work_dirs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PictureError(f'there is no folder {str(folder)!r}')
    if _logs(folder):
        return [folder]
    inside = sorted(child for child in folder.iterdir() if child.is_dir() and _logs(child))
    if not inside:
        raise PictureError(
            f'{str(folder)!r} is no run: neither it nor a folder in it has a */{_LOG}, which tools/train.py writes'
        )
    return inside


def _logs(folder: Path) -> list[Path]:
    """Oldest first: the folders in a work dir are named by their time."""
    return sorted(folder.glob(f'*/{_LOG}')) or sorted(folder.glob(_LOG))


def _short_names(folders: Sequence[Path]) -> list[str]:
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ['/'.join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise PictureError(f'a run is named twice: {", ".join(map(str, folders))}')
