"""A lock of a folder of stored features, which several runs may share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


@contextmanager
def lock_folder(path: Path, logger: Any) -> Iterator[None]:
    """Hold the lock of a folder; wait until no other run holds it. On a file system without locks, nothing is locked.

    Args:
        path (Path): The folder.
        logger (Logger): The run's log.
    """
    lock = FileLock(path / '.lock', fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info(f'cached features: waiting for another run, which reads or computes some in {path}')
        lock.acquire()
    except OSError as error:
        logger.info(f'{path} cannot be locked ({error.strerror}): let one run at a time write there')
    try:
        yield
    finally:
        lock.release()
