"""What the studies measured, read from the tidy tables that they wrote."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COSTS = ('trained_parameters', 'share', 'peak_memory_mib', 'step_seconds', 'seconds')


class EvidenceError(ValueError):
    """The page asks for what no study measured."""


@dataclass(frozen=True)
class Measured:
    """The results of one study.

    Args:
        name (str): The study.
        table (DataFrame): Its ``results.csv``.
        rows (str): The axis whose values are compared.
        metric (str): The test metric that is shown.
        scale (float): What it is multiplied by, as in the study's tables. Defaults to 1.
    """

    name: str
    table: Any
    rows: str = 'tuning'
    metric: str = 'accuracy/top1'
    scale: float = 1

    @property
    def axes(self) -> list[str]:
        """The study's axes, in order."""
        columns = list(self.table.columns)
        return columns[: columns.index('learning_rate')]

    def scores(
        self, where: Mapping[str, str], test: str | None = None, split: str = 'test', metric: str | None = None
    ) -> dict[int, float]:
        """The metric at the chosen learning rate, by seed.

        Args:
            where (Mapping[str, str]): A value of every axis.
            test (str, optional): The test set. Defaults to the first.
            split (str): ``test`` or ``val``. Defaults to ``'test'``.
            metric (str, optional): Another than the study's, on its scale.

        Raises:
            EvidenceError: an axis is left open or unknown, or there is no such run.
        """
        self._check(where)
        table = self._of(where)
        table = table[table.chosen & (table.split == split) & (table.metric == (metric or self.metric))]
        table = table[table.set == (test or next(iter(table.set), None))]
        if table.empty:
            of = ''.join(f', {what} {name}' for what, name in (('test set', test), ('metric', metric)) if name)
            raise EvidenceError(f'{self.name}: no {split} run of {_told(where)}{of}')
        return {int(seed): self.scale * float(value) for seed, value in zip(table.seed, table.value)}

    def at_edge(self, where: Mapping[str, str]) -> bool:
        """Whether the chosen learning rate is the smallest or the largest of several that were tried."""
        self._check(where)
        table = self._of(where)
        rates = sorted(table.learning_rate.unique())
        return len(rates) > 1 and bool(set(table[table.chosen].learning_rate) & {rates[0], rates[-1]})

    def cost(self, what: str, where: Mapping[str, str]) -> float:
        """The median of a cost over the seeds at the chosen learning rate."""
        self._check(where)
        table = self._of(where)
        table = table[table.chosen]
        if what not in _COSTS or table.empty:
            raise EvidenceError(f'{self.name}: no {what} of {_told(where)}')
        return float(table.drop_duplicates('seed')[what].median())

    def values(self, axis: str, where: Mapping[str, str]) -> list[str]:
        """The values of an axis that were run with the others' values."""
        table = self._of(where)
        table = table[table.chosen]
        return list(dict.fromkeys(table[axis].astype(str)))

    def columns(self) -> list[dict[str, str]]:
        """Every combination of the axes that are not compared."""
        others = [axis for axis in self.axes if axis != self.rows]
        found = self.table[others].astype(str).drop_duplicates()
        return [dict(zip(others, row)) for row in found.itertuples(index=False)]

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return len(self.table[[*self.axes, 'learning_rate', 'seed']].drop_duplicates())

    @property
    def seconds(self) -> float:
        """How long they took, one after the other."""
        return float(self.table.drop_duplicates([*self.axes, 'learning_rate', 'seed']).seconds.sum())

    def _of(self, where: Mapping[str, str]) -> Any:
        table = self.table
        for axis, value in where.items():
            table = table[table[axis].astype(str) == value]
        return table

    def _check(self, where: Mapping[str, str]) -> None:
        if set(where) != set(self.axes):
            raise EvidenceError(f'{self.name}: {_told(where)}: must name a value of each of {", ".join(self.axes)}')


def read_results(
    name: str, file: Path, rows: str = 'tuning', metric: str = 'accuracy/top1', scale: float = 1
) -> Measured:
    """Read a study's ``results.csv``.

    Raises:
        EvidenceError: there is no such file.
    """
    import pandas

    if not file.is_file():
        raise EvidenceError(f'{name}: there is no {str(file)!r}: run the study first')
    return Measured(name, pandas.read_csv(file, keep_default_na=False), rows, metric, scale)


def spread(values: list[float], sign: str = '') -> str:
    """Mean ± sample standard deviation."""
    mean = f'{statistics.fmean(values):{sign}.1f}'
    return f'{mean} ± {statistics.stdev(values):.1f}' if len(values) > 1 else mean


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """The differences of two rows, seed by seed."""
    return [one[seed] - other[seed] for seed in sorted(set(one) & set(other))]


def _told(where: Mapping[str, str]) -> str:
    return ', '.join(f'{axis}={value}' for axis, value in where.items()) or 'nothing'
