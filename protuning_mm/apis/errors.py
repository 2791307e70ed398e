"""Errors that are the input's, told without a traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from protuning_mm.apis.work_dir import WorkDirError
from protuning_mm.checkpoints import CheckpointError, FrozenWeightsError
from protuning_mm.datasets import DataError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class MultiTaskError(ValueError):
    """A task does not fit beside the others, or is not there."""


@contextmanager
def told_plainly() -> Iterator[None]:
    """Exit with status 1 and the message alone where the input is at fault, or the disk."""
    try:
        yield
    except (CheckpointError, DataError, FrozenWeightsError, MultiTaskError, WorkDirError) as error:
        raise SystemExit(f'error: {error}') from None
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise SystemExit(
            f'error: {error.strerror}{f": {error.filename}" if error.filename else ""}. Checkpoints that were saved '
            'before are whole: make room, and go on with --resume'
        ) from None
