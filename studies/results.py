"""Reads the results of the studies from their ``results.csv``."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COSTS = ('trained_parameters', 'share', 'peak_memory_mib', 'step_seconds', 'seconds')


class EvidenceError(ValueError):
    """A placeholder of the page is invalid, or its value was not measured."""


@dataclass(frozen=True)
class Measured:
    """The results of one study.

    Args:
        name (str): The study's name.
        table (DataFrame): Its ``results.csv``.
        rows (str): The axis whose values are compared. Defaults to ``'tuning'``.
        metric (str): The test metric to show. Defaults to ``'accuracy/top1'``.
        scale (float): The factor of the metric, as in the study's tables. Defaults to 1.
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
        """Return the metric at the chosen learning rate for each seed.

        Args:
            where (Mapping[str, str]): A value of every axis.
            test (str, optional): The test set. Defaults to the first.
            split (str): ``test`` or ``val``. Defaults to ``'test'``.
            metric (str, optional): A metric, multiplied by the study's scale. Defaults to the study's metric.

        Raises:
            EvidenceError: an axis is missing or unknown, or there is no such run.
        """
        self._check(where)
        table = self._select(where)
        table = table[table.chosen & (table.split == split) & (table.metric == (metric or self.metric))]
        table = table[table.set == (test or next(iter(table.set), None))]
        if table.empty:
            of = ''.join(f', {what} {name}' for what, name in (('test set', test), ('metric', metric)) if name)
            raise EvidenceError(f'{self.name}: no {split} run of {_format_where(where)}{of}')
        return {int(seed): self.scale * float(value) for seed, value in zip(table.seed, table.value)}

    def at_edge(self, where: Mapping[str, str]) -> bool:
        """Whether the chosen learning rate is the smallest or the largest of several candidates."""
        self._check(where)
        table = self._select(where)
        rates = sorted(table.learning_rate.unique())
        return len(rates) > 1 and bool(set(table[table.chosen].learning_rate) & {rates[0], rates[-1]})

    def cost(self, what: str, where: Mapping[str, str]) -> float:
        """Return the median of a cost over the seeds at the chosen learning rate."""
        self._check(where)
        table = self._select(where)
        table = table[table.chosen]
        if what not in _COSTS or table.empty:
            raise EvidenceError(f'{self.name}: no {what} of {_format_where(where)}')
        return float(table.drop_duplicates('seed')[what].median())

    def chosen(self, where: Mapping[str, str]) -> tuple[float | None, str]:
        """Return the chosen learning rate (None: the config's own) and setting (empty: none)."""
        self._check(where)
        table = self._select(where)
        table = table[table.chosen]
        if table.empty:
            raise EvidenceError(f'{self.name}: nothing was chosen for {_format_where(where)}')
        first = table.iloc[0]
        rate = None if first.learning_rate == '' else float(first.learning_rate)
        return rate, str(first.get('setting', ''))

    def values(self, axis: str, where: Mapping[str, str]) -> list[str]:
        """Return the values of an axis that were run with given values of other axes."""
        table = self._select(where)
        table = table[table.chosen]
        return list(dict.fromkeys(table[axis].astype(str)))

    def columns(self) -> list[dict[str, str]]:
        """Return every combination of the axes that are not compared; one that is empty if there are none."""
        others = [axis for axis in self.axes if axis != self.rows]
        if not others:
            return [{}]
        found = self.table[others].astype(str).drop_duplicates()
        return [dict(zip(others, row)) for row in found.itertuples(index=False)]

    @property
    def _run_columns(self) -> list[str]:
        names = [*self.axes, 'learning_rate', 'setting', 'seed', 'chosen']
        return [name for name in names if name in self.table.columns]

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.table[self._run_columns].drop_duplicates())

    @property
    def seconds(self) -> float:
        """Total seconds of all runs."""
        return float(self.table.drop_duplicates(self._run_columns).seconds.sum())

    def _select(self, where: Mapping[str, str]) -> Any:
        table = self.table
        for axis, value in where.items():
            table = table[table[axis].astype(str) == value]
        return table

    def _check(self, where: Mapping[str, str]) -> None:
        if set(where) != set(self.axes):
            names = ', '.join(self.axes)
            raise EvidenceError(f'{self.name}: {_format_where(where)}: must name a value of each of {names}')


def read_results(
    name: str, file: Path, rows: str = 'tuning', metric: str = 'accuracy/top1', scale: float = 1
) -> Measured:
    """Read a study's ``results.csv``.

    Raises:
        EvidenceError: the file does not exist.
    """
    import pandas

    if not file.is_file():
        raise EvidenceError(f'{name}: {str(file)!r} does not exist: run the study first')
    return Measured(name, pandas.read_csv(file, keep_default_na=False), rows, metric, scale)


def format_mean(values: list[float], sign: str = '') -> str:
    """Format mean ± sample standard deviation."""
    mean = f'{statistics.fmean(values):{sign}.1f}'
    return f'{mean} ± {statistics.stdev(values):.1f}' if len(values) > 1 else mean


def paired_differences(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """Return the differences of two rows for each common seed."""
    return [one[seed] - other[seed] for seed in sorted(set(one) & set(other))]


def _format_where(where: Mapping[str, str]) -> str:
    return ', '.join(f'{axis}={value}' for axis, value in where.items()) or 'nothing'
