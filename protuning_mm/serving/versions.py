"""The versions of tasks in memory, and the requests that use them."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from protuning_mm.multitask.task import Task
from protuning_mm.serving.entry import Entry


@dataclass(eq=False)
class Version:
    """One version of a task in memory.

    Args:
        key (str): Its name in :class:`MultiTask`, where each version is a task of its own.
        entry (Entry): What was read.
        task (Task): The task.
        size (float): How much of the capacity it takes. Defaults to 1.
        users (int): Requests that use it. Defaults to 0.
    """

    key: str
    entry: Entry
    task: Task
    size: float = 1
    users: int = 0


class Versions:
    """The current version of each task in memory, and older ones that requests still use.

    All methods may be called from any thread.

    Args:
        limit (float): Sizes of the current versions to keep, unless running requests need more.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._lock = threading.Lock()  # held while the fields below are used
        self._current: dict[str, Version] = {}  # by the task's name; the least recently used first
        self._retired: list[Version] = []

    def __len__(self) -> int:
        return len(self._current) + len(self._retired)

    def __contains__(self, name: str) -> bool:
        return name in self._current

    def use(self, wanted: Sequence[tuple[Entry, Entry | None]]) -> list[Version] | None:
        """Count one more user of each task, and return the versions; None if one of them is not in memory.

        Args:
            wanted (Sequence[tuple]): For each task the version that the store names, and one that cannot be read: in
                its place, the version in memory is used.
        """
        with self._lock:
            found = []
            for entry, unreadable in wanted:
                version = self._current.get(entry.name)
                if version is None or (version.entry != entry and entry != unreadable):
                    return None
                found.append(version)
            for version in found:
                version.users += 1
                self._current[version.entry.name] = self._current.pop(version.entry.name)
            return found

    def release(self, versions: Sequence[Version]) -> bool:
        """Count one user less of each version; return whether :meth:`take_unused` has something to do."""
        with self._lock:
            for version in versions:
                version.users -= 1
            return bool(self._retired) or self._size() > self.limit

    def put(self, version: Version) -> None:
        """Make a version the current one of its task."""
        self.retire(version.entry.name)
        with self._lock:
            self._current[version.entry.name] = version

    def retire(self, name: str) -> None:
        """Let no new request use a task."""
        with self._lock:
            old = self._current.pop(name, None)
            self._retired += [old] if old is not None else []

    def take_unused(self, all_idle: bool = False) -> tuple[list[Version], int]:
        """Retire the least recently used tasks beyond the limit, and remove the retired versions that nobody uses.

        The last current version stays, because its tensors are the base of the next ones.

        Args:
            all_idle (bool): Whether to retire all tasks without requests. Defaults to False.

        Returns:
            tuple: The removed versions, and the number of tasks that were retired.
        """
        with self._lock:
            idle = [name for name, version in self._current.items() if not version.users]
            evicted = 0
            for name in idle[:-1] if len(idle) == len(self._current) else idle:
                if self._size() <= self.limit and not all_idle:
                    break
                self._retired.append(self._current.pop(name))
                evicted += 1
            unused = [version for version in self._retired if not version.users]
            self._retired = [version for version in self._retired if version.users]
            return unused, evicted

    def _size(self) -> float:
        return sum(version.size for version in self._current.values())
