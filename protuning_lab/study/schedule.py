"""Decides which cell runs next: first the learning rate candidates, then the remaining seeds at the chosen rate."""

from collections import deque
from collections.abc import Mapping, Sequence

from protuning_lab.study.definition import Study
from protuning_lab.study.grid import Cell, Group
from protuning_lab.study.learning_rate_choice import (
    LearningRateChoice,
    choose_learning_rate,
    list_final_cells,
    list_search_cells,
)
from protuning_lab.study.results import Result


class Schedule:
    """The queue of a study's cells. Which cells follow depends on the results of earlier ones.

    Args:
        study (Study): The study.
        groups (Sequence[Group]): The groups to run.
        results (Mapping[Cell, Result]): Results of an earlier run of the study.
    """

    def __init__(self, study: Study, groups: Sequence[Group], results: Mapping[Cell, Result]) -> None:
        self.study = study
        self.groups = list(groups)
        self.results = dict(results)
        self.failed: dict[Cell, str] = {}
        self.choices: dict[Group, LearningRateChoice] = {}
        self._queue: deque[Cell] = deque()
        self._queued: set[Cell] = set()
        for group in self.groups:
            self._enqueue(list_search_cells(study, group))
        for group in self.groups:
            self._choose_rate(group)

    @property
    def total(self) -> int:
        """Number of runs that the study needs."""
        return sum(self._count_needed(group) for group in self.groups)

    @property
    def done(self) -> int:
        """Number of runs that have succeeded."""
        return self.total - self.left - len(self.failed)

    @property
    def left(self) -> int:
        """Number of runs that have neither succeeded nor failed, including those that are running."""
        return sum(self.count_left(group) for group in self.groups)

    def next_cell(self) -> Cell | None:
        """Return a cell that can run now; None if all cells were returned, or the others wait for results."""
        return self._queue.popleft() if self._queue else None

    def mark_succeeded(self, cell: Cell, result: Result) -> None:
        """Store the result of a cell; enqueue the cells that waited for it."""
        self.results[cell] = result
        self._choose_rate(cell.group)

    def mark_failed(self, cell: Cell, error: str) -> None:
        """Store the error of a cell; enqueue the cells that waited for it."""
        self.failed[cell] = error
        self._choose_rate(cell.group)

    def _enqueue(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            if cell not in self.results and cell not in self._queued:
                self._queued.add(cell)
                self._queue.append(cell)

    def _choose_rate(self, group: Group) -> None:
        """Choose the learning rate of a group if all runs of its search have ended; enqueue the remaining seeds."""
        ended = all(cell in self.results or cell in self.failed for cell in list_search_cells(self.study, group))
        if group in self.choices or not ended:
            return
        choice = choose_learning_rate(self.study, group, self.results)
        if choice is not None:
            self.choices[group] = choice
            self._enqueue(list_final_cells(self.study, group, choice))

    def _known_cells(self, group: Group) -> list[Cell]:
        search = list_search_cells(self.study, group)
        choice = self.choices.get(group)
        final = list_final_cells(self.study, group, choice) if choice else []
        return list(dict.fromkeys([*search, *final]))

    def _count_needed(self, group: Group) -> int:
        search = list_search_cells(self.study, group)
        if self._all_candidates_failed(group):
            return len(search)
        return len(search) + len(set(self.study.seeds) - {cell.seed for cell in search if not cell.search})

    def count_left(self, group: Group) -> int:
        """Number of runs of one group that have neither succeeded nor failed."""
        known = self._known_cells(group)
        open_cells = sum(cell not in self.results and cell not in self.failed for cell in known)
        return open_cells + self._count_needed(group) - len(known)

    def _all_candidates_failed(self, group: Group) -> bool:
        """Whether every candidate failed. The remaining seeds then never run."""
        search = list_search_cells(self.study, group)
        ended = all(cell in self.results or cell in self.failed for cell in search)
        return bool(search) and ended and group not in self.choices
