"""Reads the logs of runs: mmengine's ``vis_data/scalars.json``, from all time-stamped folders of a run."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protuning_lab.pictures.figures import PictureError

_LOG = 'vis_data/scalars.json'
_SEED = re.compile(r'[_-]seed[_-]?\d+$')


@dataclass(frozen=True)
class Record:
    """One line of a log file.

    Args:
        reached (int): The last iteration that its file had logged so far, this line included.
        trained (bool): Whether training logged the line. Otherwise validation did.
        step (int): The iteration; for a validation of an epoch-based run, the epoch.
        values (dict): Metric -> value.
    """

    reached: int
    trained: bool
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Curve:
    """One metric of one run.

    Args:
        steps (list[int]): The logged steps in ascending order.
        values (list[float]): The value at each step.
        unit (str): The unit of the steps: ``'iteration'`` or ``'epoch'``.
        trained (bool): Whether training logged the metric. Otherwise validation did.
    """

    steps: list[int]
    values: list[float]
    unit: str
    trained: bool


@dataclass(frozen=True)
class Run:
    """The log of one run.

    Args:
        name (str): Its name in the figure.
        folder (Path): Its work dir.
        records (list[Record]): What the run logged. Steps that a resumed run repeated are included once.
    """

    name: str
    folder: Path
    records: list[Record]

    @property
    def group(self) -> str:
        """The name without its seed. Runs that differ only in the seed form a group."""
        return _SEED.sub('', self.name)

    @property
    def metrics(self) -> list[str]:
        """The names of the logged metrics."""
        return sorted({key for record in self.records for key in record.values})

    def curve(self, metric: str) -> Curve:
        """Return the curve of one metric.

        Raises:
            PictureError: the metric was not logged. The message lists the logged metrics.
        """
        found = [record for record in self.records if metric in record.values]
        if not found:
            raise PictureError(
                f'the logs in {self.folder} do not contain {metric!r}; they contain: {", ".join(self.metrics)}'
            )
        last = {record.step: record.values[metric] for record in found}
        trained = found[0].trained
        unit = 'epoch' if not trained and self._validates_by_epoch() else 'iteration'
        return Curve(sorted(last), [last[step] for step in sorted(last)], unit, trained)

    def _validates_by_epoch(self) -> bool:
        """Whether validations count epochs: their steps are then lower than the iterations logged before them."""
        return any(record.step < record.reached for record in self.records if not record.trained)


def find_runs(folders: Sequence[str | Path], names: Sequence[str] | None = None) -> list[Run]:
    """Read the logs of the runs in some folders.

    Args:
        folders (Sequence[str]): Work dirs of ``tools/train.py``, single time-stamped folders in them, or folders whose
            subfolders are work dirs, as ``compare_runs.py`` writes them.
        names (Sequence[str], optional): One name per run. Defaults to the shortest ends of the folders' paths that are
            distinct.

    Raises:
        PictureError: a folder does not exist or has no logs, a log is damaged, or the number of names is wrong.
    """
    work_dirs = [found for folder in folders for found in _work_dirs(Path(folder))]
    if names is None:
        names = _short_names(work_dirs)
    elif len(names) != len(work_dirs):
        listed = ', '.join(map(str, work_dirs))
        raise PictureError(f'--names has {len(names)} names for {len(work_dirs)} runs: {listed}')
    return [
        Run(name, folder, merge_logs(read_log(log) for log in _logs(folder))) for name, folder in zip(names, work_dirs)
    ]


def read_log(log: Path) -> list[Record]:
    """Read one log file. A last line that was cut off by a kill is ignored.

    Raises:
        PictureError: another line is not a JSON object.
    """
    records, reached = [], 0
    lines = log.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            content: dict[str, Any] = dict(json.loads(line))
        except (ValueError, TypeError):
            if number == len(lines):
                break
            raise PictureError(f'{log}, line {number} is not a JSON object: {line[:60]!r}') from None
        trained = 'iter' in content
        reached = max(reached, int(content.get('iter', 0)))
        values = {
            key: float(value)
            for key, value in content.items()
            if key not in ('step', 'iter', 'epoch') and isinstance(value, int | float)
        }
        records.append(Record(reached, trained, int(content.get('step', content.get('iter', 0))), values))
    return records


def merge_logs(logs: Iterable[list[Record]]) -> list[Record]:
    """Merge the log files of a resumed run, oldest first. Of repeated steps, the last values are kept."""
    kept: list[Record] = []
    for records in logs:
        first = next((record.step for record in records if record.trained), None)
        if first is not None:
            kept = [record for record in kept if record.reached < first]
        kept += records
    return kept


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Compute an exponential moving average without bias towards the first value.

    Args:
        values (Sequence[float]): v_1, v_2, …
        weight (float): w, from 0 (no smoothing) to below 1. In the k-th average, v_i has the weight w^(k - i).
    """
    smoothed, total, mass = [], 0.0, 0.0
    for value in values:
        total = weight * total + value
        mass = weight * mass + 1
        smoothed.append(total / mass)
    return smoothed


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Compute the mean of several runs at the steps that all of them logged."""
    steps = sorted(set.intersection(*(set(curve.steps) for curve in curves)))
    at = [dict(zip(curve.steps, curve.values)) for curve in curves]
    means = [sum(values[step] for values in at) / len(at) for step in steps]
    return Curve(steps, means, curves[0].unit, curves[0].trained)


def _work_dirs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise PictureError(f'folder {str(folder)!r} does not exist')
    if _logs(folder):
        return [folder]
    inside = sorted(child for child in folder.iterdir() if child.is_dir() and _logs(child))
    if not inside:
        raise PictureError(
            f'{str(folder)!r} is not the work dir of a run: neither it nor its subfolders contain */{_LOG}, which '
            'tools/train.py writes'
        )
    return inside


def _logs(folder: Path) -> list[Path]:
    """Return the log files of a work dir, oldest first: its subfolders are named by time."""
    return sorted(folder.glob(f'*/{_LOG}')) or sorted(folder.glob(_LOG))


def _short_names(folders: Sequence[Path]) -> list[str]:
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ['/'.join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise PictureError(f'a run is given twice: {", ".join(map(str, folders))}')
