"""The store: a folder that names the tasks of a server."""

import json
from collections.abc import Mapping
from pathlib import Path

from protuning_mm.serving.entry import NAME, Entry, make_entry
from protuning_mm.serving.errors import RequestError, ServingError
from protuning_mm.weights.hub import SCHEME

RECORD, CONFIGS = 'task.json', 'configs'


class Store:
    """Reads ``NAME/task.json``, which names a task's config and the delta beside it.

    Every read looks at the folder, so that several servers can use one store.

    Args:
        folder (Path, optional): The folder. Defaults to None: there are only fixed tasks.
        fixed (Mapping): Tasks that no request can change: name -> config and checkpoint.

    Raises:
        ServingError: the folder does not exist, or a name is not allowed.
    """

    def __init__(self, folder: Path | None, fixed: Mapping[str, tuple[str, str]]) -> None:
        if folder is not None and not folder.is_dir():
            raise ServingError(f'the folder of tasks {str(folder)!r} does not exist')
        if wrong := [name for name in fixed if not NAME.fullmatch(name)]:
            raise ServingError(f"the name of a task must match {NAME.pattern}; '{wrong[0]}' does not")
        self.folder = folder
        self.fixed = dict(fixed)

    def names(self) -> list[str]:
        """List the tasks: the fixed ones, then those of the folder by name."""
        found = sorted(path.parent.name for path in self.folder.glob(f'*/{RECORD}')) if self.folder else []
        return [*self.fixed, *(name for name in found if NAME.fullmatch(name) and name not in self.fixed)]

    def read(self, name: str) -> Entry:
        """Read which config and delta a task has now.

        Raises:
            RequestError: there is no such task (404), or its files are missing or damaged (500).
        """
        if name in self.fixed:
            config, checkpoint = self.fixed[name]
            return make_entry(name, config, checkpoint, fixed=True)
        written = self._read_record(name)
        delta = written['delta']
        is_address = delta.startswith(SCHEME)
        return make_entry(name, self.locate(written['config']), delta if is_address else str(self.home(name) / delta))

    def home(self, name: str) -> Path:
        """Return the folder of a task.

        Raises:
            RequestError: the name is not allowed (404), or the server has no folder of tasks (403).
        """
        if not NAME.fullmatch(name):
            raise RequestError(404, f'the name of a task must match {NAME.pattern}')
        if self.folder is None:
            raise RequestError(403, 'this server has no folder of tasks (--tasks DIR), so no task can be changed')
        return self.folder / name

    def find_config(self, name: str, written: str) -> str:
        """Return what a task's record will name as its config, for what a request names.

        Args:
            name (str): The task's name.
            written (str): A config below ``configs/``, or a task whose config is taken; empty for the config that the
                task has.

        Raises:
            RequestError: there is neither such a config nor such a task (422).
        """
        written = written or name
        configs = self.configs()
        if written in configs:
            return written
        if written in self.fixed:
            config = self.fixed[written][0]
            return config if '::' in config else str(Path(config).absolute())
        if written in self.names():
            return self._read_record(written)['config']
        raise RequestError(
            422,
            f'config: {written!r} is neither a task nor a config of this server; configs are: '
            f'{", ".join(configs) or f"none (the operator puts them into {CONFIGS}/)"}',
        )

    def locate(self, config: str) -> str:
        """Return the path of what a record names as its config; a config in a package stays as it is."""
        assert self.folder is not None
        return config if '::' in config else str(self.folder / CONFIGS / config)  # an absolute path stays as it is

    def configs(self) -> list[str]:
        """List the configs below ``configs/``, by their paths in it."""
        folder = self.folder / CONFIGS if self.folder is not None else Path()
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.py')) if self.folder else []

    def _read_record(self, name: str) -> dict[str, str]:
        missing = RequestError(404, f'there is no task {name!r}; GET /v1/tasks lists the tasks')
        if self.folder is None:
            raise missing
        try:
            text = (self.home(name) / RECORD).read_text()
        except FileNotFoundError:
            raise missing from None
        try:
            written = json.loads(text)
            if isinstance(written['config'], str) and isinstance(written['delta'], str):
                return dict(written)
        except (ValueError, TypeError, KeyError):
            pass
        raise RequestError(500, f'task {name!r}: its {RECORD} must be {{"config": "…", "delta": "…"}}')
