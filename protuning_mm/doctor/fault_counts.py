"""The faults of a data set, grouped by kind and counted."""

from collections import defaultdict
from dataclasses import dataclass, field

from protuning_mm.doctor.findings import Finding, Findings, Level, join_first


@dataclass(frozen=True)
class FaultKind:
    """A kind of fault that many entries of a data set can have.

    Args:
        level (str): Level of the finding.
        found (str): Text that follows the number of entries, such as ``'boxes have no area'``.
        advice (str): What to change.
    """

    level: Level
    found: str
    advice: str


@dataclass
class FaultCounts:
    """The faults of one data set.

    Args:
        key (str): Config key of the data set.
        names (dict[FaultKind, list[str]]): Names of the entries that have each kind of fault.
    """

    key: str
    names: dict[FaultKind, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: FaultKind, name: str) -> None:
        """Add an entry that has a kind of fault."""
        self.names[kind].append(name)

    def findings(self) -> Findings:
        """Yield one finding per kind, with the number of entries and the names of the first few."""
        for kind, names in self.names.items():
            yield Finding(kind.level, self.key, f'{len(names)} {kind.found}: {join_first(names)}', kind.advice)
