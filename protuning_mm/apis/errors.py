"""Errors that are the input's, told without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from protuning_mm.checkpoints import CheckpointError, FrozenWeightsError
from protuning_mm.datasets import DataError


class MultiTaskError(ValueError):
    """A task does not fit beside the others, or is not there."""


@contextmanager
def told_plainly() -> Iterator[None]:
    """Exit with status 1 and the message alone where the input is at fault."""
    try:
        yield
    except (CheckpointError, DataError, FrozenWeightsError, MultiTaskError) as error:
        raise SystemExit(f'error: {error}') from None
