"""Many small faults of a data set, counted by kind."""

from collections import defaultdict
from dataclasses import dataclass, field

from protuning_mm.doctor.findings import Finding, Findings, Level, first_few


@dataclass(frozen=True)
class Kind:
    """One kind of fault: how grave, what is said of those that have it, and what to do."""

    level: Level
    found: str
    advice: str


@dataclass
class Problems:
    """What was found in one data set.

    Args:
        key (str): The data set's key in the config.
    """

    key: str
    named: dict[Kind, list[str]] = field(default_factory=lambda: defaultdict(list))

    def note(self, kind: Kind, name: str) -> None:
        """Count one more of a kind."""
        self.named[kind].append(name)

    def findings(self) -> Findings:
        """One finding a kind, with the number and the first few names."""
        for kind, names in self.named.items():
            yield Finding(kind.level, self.key, f'{len(names)} {kind.found}: {first_few(names)}', kind.advice)
