"""What is to run next: the candidates of every learning rate first, then the remaining seeds at the chosen one."""

from collections import deque
from collections.abc import Mapping, Sequence

from protuning_lab.study.choice import Choice, choose, final_cells, search_cells
from protuning_lab.study.definition import Study
from protuning_lab.study.grid import Cell, Group
from protuning_lab.study.results import Result


class Schedule:
    """Hands out cells; what it hands out later depends on what the earlier ones found.

    Args:
        study (Study): The study.
        groups (Sequence[Group]): Those to run.
        results (Mapping[Cell, Result]): What is there already.
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
        """Runs that the study needs in all."""
        return sum(self._needed(group) for group in self.groups)

    @property
    def done(self) -> int:
        return self.total - self.left - len(self.failed)

    @property
    def left(self) -> int:
        """Runs that are neither done nor failed, those under way among them."""
        return sum(self.left_of(group) for group in self.groups)

    def next(self) -> Cell | None:
        """A cell that can run now; None when there is none, or none until others end."""
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
        """Choose once every run of the search has ended, however it ended."""
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
        """Runs of one group that are neither done nor failed."""
        known = self._cells(group)
        open_cells = sum(cell not in self.results and cell not in self.failed for cell in known)
        return open_cells + self._needed(group) - len(known)

    def _lost(self, group: Group) -> bool:
        """Whether every candidate failed: the remaining seeds never run."""
        search = search_cells(self.study, group)
        ended = all(cell in self.results or cell in self.failed for cell in search)
        return bool(search) and ended and group not in self.choices
