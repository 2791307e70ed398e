"""Decides which cell runs next: first all learning rate candidates, then the other seeds at the chosen rate."""

from collections import deque
from collections.abc import Mapping, Sequence

from protuning_lab.study.choice import Choice, choose, final_cells, search_cells
from protuning_lab.study.definition import Study
from protuning_lab.study.grid import Cell, Group
from protuning_lab.study.results import Result


class Schedule:
    """Hands out the cells of a study; later cells depend on the results of earlier ones.

    Args:
        study (Study): The study.
        groups (Sequence[Group]): The groups to run.
        results (Mapping[Cell, Result]): Results of an earlier call.
    """

    def __init__(self, study: Study, groups: Sequence[Group], results: Mapping[Cell, Result]) -> None:
        self.study = study
        self.groups = list(groups)
        self.results = dict(results)
        self.failed: dict[Cell, str] = {}
        self.choices: dict[Group, Choice] = {}
        self._ready: deque[Cell] = deque()
        self._handed: set[Cell] = set()
        for group in self.groups:
            self._put(search_cells(study, group))
        for group in self.groups:
            self._choose(group)

    @property
    def total(self) -> int:
        """Number of runs that the study needs."""
        return sum(self._needed(group) for group in self.groups)

    @property
    def done(self) -> int:
        return self.total - self.left - len(self.failed)

    @property
    def left(self) -> int:
        """Number of runs that have neither succeeded nor failed, including those that are running."""
        return sum(self.left_of(group) for group in self.groups)

    def next(self) -> Cell | None:
        """Return a cell that can run now, or None if all are handed out or the next ones wait for results."""
        return self._ready.popleft() if self._ready else None

    def succeeded(self, cell: Cell, result: Result) -> None:
        self.results[cell] = result
        self._choose(cell.group)

    def failed_at(self, cell: Cell, error: str) -> None:
        self.failed[cell] = error
        self._choose(cell.group)

    def _put(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            if cell not in self.results and cell not in self._handed:
                self._handed.add(cell)
                self._ready.append(cell)

    def _choose(self, group: Group) -> None:
        """Choose the learning rate of a group as soon as all runs of its search have ended."""
        ended = all(cell in self.results or cell in self.failed for cell in search_cells(self.study, group))
        if group in self.choices or not ended:
            return
        choice = choose(self.study, group, self.results)
        if choice is not None:
            self.choices[group] = choice
            self._put(final_cells(self.study, group, choice))

    def _cells(self, group: Group) -> list[Cell]:
        search = search_cells(self.study, group)
        choice = self.choices.get(group)
        final = final_cells(self.study, group, choice) if choice else []
        return list(dict.fromkeys([*search, *final]))

    def _needed(self, group: Group) -> int:
        search = search_cells(self.study, group)
        if self._lost(group):
            return len(search)
        return len(search) + len(set(self.study.seeds) - {cell.seed for cell in search})

    def left_of(self, group: Group) -> int:
        """Number of runs of one group that have neither succeeded nor failed."""
        known = self._cells(group)
        open_cells = sum(cell not in self.results and cell not in self.failed for cell in known)
        return open_cells + self._needed(group) - len(known)

    def _lost(self, group: Group) -> bool:
        """Whether every candidate failed, so that the other seeds never run."""
        search = search_cells(self.study, group)
        ended = all(cell in self.results or cell in self.failed for cell in search)
        return bool(search) and ended and group not in self.choices
