"""What is odd in data that is converted, and what is done about it."""

from collections.abc import Iterator

_SHOWN = 3


class Findings:
    """Collects what is odd: for each kind, what was done, how often, and the first examples."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, list[str]]] = {}

    def add(self, what: str, done: str, where: str, number: int = 1) -> None:
        """Add something odd.

        Args:
            what (str): What was found, in the plural, such as ``'boxes without area'``.
            done (str): What was done about it, such as ``'removed'``.
            where (str): An example, such as a file.
            number (int): How many were found. Defaults to 1.
        """
        count, examples = self._found.get((what, done), (0, []))
        if where not in examples:
            examples = [*examples, where]
        self._found[what, done] = count + number, examples[: _SHOWN + 1]

    def __iter__(self) -> Iterator[str]:
        """Yield a line per kind."""
        for (what, done), (count, examples) in self._found.items():
            more = ', …' if len(examples) > _SHOWN else ''
            yield f'{count} {what}: {done} ({", ".join(examples[:_SHOWN])}{more})'
