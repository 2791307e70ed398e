"""One run at a time in a work dir, and a work dir that can be written, found out before anything is built."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import print_log

_LOCK = '.lock'


class WorkDirError(RuntimeError):
    """A work dir cannot be written, or another run is writing to it."""


@contextmanager
def claimed(work_dir: str | Path) -> Iterator[None]:
    """Make a work dir and keep it for this run.

    Two runs in one folder would write each other's ``epoch_1.pth`` and ``last_checkpoint``. The claim is a lock on a
    file in it, which the kernel lifts when the process ends, however it ends. Of several ranks the first claims for
    all. Where a file system knows no locks nothing is claimed.

    Args:
        work_dir (str | Path): The folder.

    Raises:
        WorkDirError: another run holds it, or it cannot be written.
    """
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))):
        yield
        return
    path = Path(work_dir) / _LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open('a+')
    except OSError as error:
        raise WorkDirError(
            f'work dir {str(work_dir)!r} cannot be written: {error.strerror} ({error.filename}); name another by '
            '--work-dir'
        ) from None
    with file:
        try:
            # not flock, whose lock the data loader's workers would inherit and hold when this process is killed
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            other = file.read().strip() or 'it does not say which'
            raise WorkDirError(
                f'another run is writing to work dir {str(work_dir)!r}: {other}. Wait for it, stop it, or name another '
                'folder by --work-dir'
            ) from None
        except OSError as error:
            print_log(f'{path} cannot be locked ({error.strerror}): see to it that one run writes there', 'current')
        file.seek(0)
        file.truncate()
        file.write(f'process {os.getpid()} on {socket.gethostname()} since {time.strftime("%Y-%m-%d %H:%M:%S")}\n')
        file.flush()
        yield
