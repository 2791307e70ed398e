"""Changes of the store. Whenever the process is killed, a task in it is the old or the new one."""

import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from protuning_mm.serving.entry import Entry
from protuning_mm.serving.errors import RequestError
from protuning_mm.serving.store import RECORD, Store
from protuning_mm.weights.atomic import write_atomically
from protuning_mm.weights.signature import signature_of

_UPLOAD, _DELTA = '.upload-', 'delta-'  # prefixes of what the server writes itself
_STALE = 3600  # seconds after which an upload was left by a killed server


@contextmanager
def temporary_folder(store: Store) -> Iterator[Path]:
    """Make a folder in the store for one upload, and remove it. Those that a killed server has left are removed too."""
    assert store.folder is not None
    for left in store.folder.glob(f'{_UPLOAD}*'):
        if time.time() - left.stat().st_mtime > _STALE:
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_UPLOAD, dir=store.folder))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_task(store: Store, name: str, config: str, uploaded: Path) -> Entry:
    """Move an uploaded delta into the store, and name it in the task's record.

    Args:
        store (Store): The store.
        name (str): The task's name.
        config (str): What :meth:`Store.find_config` returned.
        uploaded (Path): The delta in a :func:`temporary_folder`, perhaps with its signature beside it.

    Raises:
        OSError: the disk is full or the folder is not writable. An existing task is unchanged.
    """
    home = store.home(name)
    home.mkdir(exist_ok=True)
    delta = home / f'{_DELTA}{secrets.token_hex(8)}{uploaded.suffix}'
    try:
        if signature_of(uploaded).exists():
            write_atomically(signature_of(uploaded).read_bytes(), signature_of(delta))
        with uploaded.open('rb') as file:
            os.fsync(file.fileno())
        uploaded.replace(delta)
        write_atomically(json.dumps(dict(config=config, delta=delta.name)).encode() + b'\n', home / RECORD)
    except OSError:
        delta.unlink(missing_ok=True)
        signature_of(delta).unlink(missing_ok=True)
        _remove_if_empty(home)
        raise
    _remove_deltas(home, delta)
    return store.read(name)


def delete_task(store: Store, name: str) -> None:
    """Remove a task's record, then the deltas that were uploaded. Files of the operator stay.

    Raises:
        RequestError: there is no such task (404).
    """
    home = store.home(name)
    try:
        (home / RECORD).unlink()
    except FileNotFoundError:
        raise RequestError(404, f'there is no task {name!r}') from None
    _remove_deltas(home)
    _remove_if_empty(home)


def _remove_deltas(home: Path, used: Path | None = None) -> None:
    for path in home.glob(f'{_DELTA}*'):
        if used is None or path not in (used, signature_of(used)):
            path.unlink(missing_ok=True)


def _remove_if_empty(home: Path) -> None:
    if not any(home.iterdir()):
        home.rmdir()
