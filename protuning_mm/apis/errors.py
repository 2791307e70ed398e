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
        raise SystemExit(f'error: {_own_words(error)}') from None
    except OSError as error:
        if error.errno not in _DISK:
            raise
        raise SystemExit(
            f'error: {error.strerror}{f": {error.filename}" if error.filename else ""}. Checkpoints that were saved '
            'before are whole: make room, and go on with --resume'
        ) from None


def _own_words(error: Exception) -> str:
    """Return an error's message; torch hands one of a loader's worker on with the worker's traceback before it."""
    said, kind = str(error), type(error)
    if not said.startswith(f'Caught {kind.__name__} in '):
        return said
    _, found, own = said.rpartition(f'\n{kind.__module__}.{kind.__qualname__}: ')
    return own.rstrip('\n') if found else said
