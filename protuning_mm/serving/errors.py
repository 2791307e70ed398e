"""The error that becomes an answer with an HTTP status."""

from collections.abc import Mapping

import torch

_NO_MEMORY = ("can't allocate memory", 'Cannot allocate memory')  # of torch on a CPU, of the system


class RequestError(RuntimeError):
    """A request cannot be answered.

    Args:
        status (int): The HTTP status.
        message (str): What is wrong and what would be right. It is sent to the client.
        headers (Mapping, optional): Headers of the answer. Defaults to none.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})


class ServingError(RuntimeError):
    """The server cannot start."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised for, says that memory was not enough."""
    while error is not None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
