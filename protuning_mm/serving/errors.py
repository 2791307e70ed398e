"""The error that becomes an answer with an HTTP status."""

from collections.abc import Mapping


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
