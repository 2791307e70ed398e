"""Locking of a work dir for one run, and a check that it can be written."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.logging import print_log

_LOCK = '.lock'


class WorkDirError(RuntimeError):
    """A work dir cannot be written, or another run is writing to it."""


@contextmanager
def lock_work_dir(work_dir: str | Path) -> Iterator[None]:
    """Create a work dir and hold its lock, so that two runs do not overwrite each other's checkpoints.

    The operating system releases the lock when the process ends, however it ends. filelock closes the lock in forked
    data loader workers, so that they do not hold it after their parent is killed. In distributed training rank 0 locks
    for all ranks. On a file system without locks this logs a warning and locks nothing.

    Args:
        work_dir (str | Path): The folder.

    Raises:
        WorkDirError: another run holds the lock, or the folder cannot be written.
    """
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))):
        yield
        return
    path = Path(work_dir) / _LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open('a').close()
    except OSError as error:
        raise WorkDirError(
            f'work dir {str(work_dir)!r} cannot be written: {error.strerror} ({error.filename}); set another by '
            '--work-dir'
        ) from None
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        holder = 'its lock file does not say which run'
        with suppress(OSError):  # Windows refuses to read a locked file
            holder = path.read_text().strip() or holder
        raise WorkDirError(
            f'another run is writing to work dir {str(work_dir)!r}: {holder}. Wait for it, stop it, or set another '
            'folder by --work-dir'
        ) from None
    except OSError as error:
        print_log(f'{path} cannot be locked ({error.strerror}): make sure that only one run writes there', 'current')
    holder = f'process {os.getpid()} on {socket.gethostname()} since {time.strftime("%Y-%m-%d %H:%M:%S")}\n'
    try:
        with suppress(PermissionError):  # Windows refuses to write to a locked file
            path.write_text(holder)
        yield
    finally:
        lock.release()
